//! Stop texts in a stream: what may be the start of one is held back until it's known.

/// Cuts a stream of text at the first stop text, however the stream is cut into pieces.
#[derive(Debug, Clone)]
pub struct StopFilter {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopFilter {
    /// A filter for these stop texts; empty ones are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new(), stopped: false }
    }

    /// Takes new text. Answers the text that is safe to send, and whether a stop text has come; from then on nothing
    /// is safe to send. The stop text itself is never sent.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        if self.stopped {
            return (String::new(), true);
        }
        self.held.push_str(text);
        // The stop text that ends first wins, so that the outcome doesn't depend on how the stream was cut.
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop).map(|at| (at + stop.len(), at))).min();
        if let Some((_, at)) = found {
            self.held.truncate(at);
            self.stopped = true;
            return (std::mem::take(&mut self.held), true);
        }
        let safe = self.held.len() - self.longest_start_at_end();
        let rest = self.held.split_off(safe);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The end of the stream: what was held back and is no stop text after all.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length of the longest end of the held text that a stop text starts with.
    fn longest_start_at_end(&self) -> usize {
        let longest = |stop: &String| {
            let ends = (0..=self.held.len()).filter(|&at| self.held.is_char_boundary(at)).map(|at| &self.held[at..]);
            ends.filter(|end| stop.starts_with(end)).map(str::len).max()
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        let mut filter = StopFilter::new(&stops);
        let mut sent = String::new();
        let mut stopped = false;
        for piece in pieces {
            let (text, now) = filter.push(piece);
            sent += &text;
            stopped = now;
        }
        sent += &filter.finish();
        (sent, stopped)
    }

    #[test]
    fn holds_back_only_what_may_start_a_stop_text() {
        let mut filter = StopFilter::new(&["\n\nUser:".to_owned()]);
        assert_eq!(filter.push("Hi\n"), ("Hi".to_owned(), false));
        assert_eq!(filter.push("\nU"), (String::new(), false));
        assert_eq!(filter.push("pper"), ("\n\nUpper".to_owned(), false));
        assert_eq!(filter.push("\n\nUser: x"), (String::new(), true));
        assert_eq!(filter.push("more"), (String::new(), true));
        assert_eq!(filter.finish(), "");
    }

    #[test]
    fn what_was_held_comes_at_the_end() {
        assert_eq!(run(&["END"], &["the EN"]), ("the EN".to_owned(), false));
        assert_eq!(run(&[""], &["abc"]), ("abc".to_owned(), false));
        assert_eq!(run(&["é!"], &["caf", "é", "!", "x"]), ("caf".to_owned(), true));
    }

    #[test]
    fn the_pieces_do_not_matter() {
        let stops = ["abc", "b", "caab", "aaa"];
        for code in 0..3_usize.pow(7) {
            let text: String = (0..7).map(|i| ['a', 'c', 'x'][code / 3_usize.pow(i) % 3]).collect();
            let whole = run(&stops[..], &[&text]);
            for cut in 1..text.len() {
                assert_eq!(run(&stops, &[&text[..cut], &text[cut..]]), whole, "{text} cut at {cut}");
            }
            let letters: Vec<&str> = text.split("").collect();
            assert_eq!(run(&stops, &letters), whole, "{text} letter by letter");
        }
    }
}
