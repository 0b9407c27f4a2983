//! Rows of a benchmark's own file: CSV with a header (RFC 4180), JSON objects one a line, or a JSON list of objects. Pure: bytes in, rows or
//! what is wrong in which line out.

use serde_json::{Map, Value};

/// A row and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// "line 7", or "entry 7" of a JSON list.
    pub(crate) place: String,
    /// Its fields by name; those of a CSV are all text.
    pub(crate) fields: Map<String, Value>,
}

impl Row {
    /// A text that isn't blank, as it stands.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str().filter(|text| !text.trim().is_empty())
    }

    /// The first of these texts that is there.
    pub(crate) fn one_of(&self, names: &[&str]) -> Result<&str, String> {
        let found = names.iter().find_map(|name| self.text(name));
        found.ok_or_else(|| format!("{}: there is no \"{}\"", self.place, names.join("\" or \"")))
    }
}

/// The file's text: UTF-8, with or without a byte order mark.
pub(crate) fn text(data: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(data).map_err(|e| {
        let line = data[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
        format!("line {line} isn't UTF-8")
    })?;
    Ok(text.strip_prefix('\u{FEFF}').unwrap_or(text))
}

/// All rows.
pub(crate) fn rows(data: &[u8]) -> Result<Vec<Row>, String> {
    let text = text(data)?;
    let rows = match text.trim_start().chars().next() {
        None => return Err("the file is empty".to_owned()),
        Some('[') => list(text)?,
        Some('{') => lines(text)?,
        Some(_) => csv(text)?,
    };
    if rows.is_empty() { Err("the file has no rows".to_owned()) } else { Ok(rows) }
}

fn list(text: &str) -> Result<Vec<Row>, String> {
    let all: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|e| format!("not a list of objects: {e}"))?;
    Ok(all.into_iter().enumerate().map(|(i, fields)| Row { place: format!("entry {}", i + 1), fields }).collect())
}

fn lines(text: &str) -> Result<Vec<Row>, String> {
    let row = |(i, line): (usize, &str)| {
        let place = format!("line {}", i + 1);
        let fields = serde_json::from_str(line).map_err(|e| format!("{place}: not a JSON object: {e}"))?;
        Ok(Row { place, fields })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(row).collect()
}

fn csv(text: &str) -> Result<Vec<Row>, String> {
    let mut records = records(text)?.into_iter();
    let (_, header) = records.next().unwrap_or_default();
    let row = |(line, cells): (usize, Vec<String>)| {
        let place = format!("line {line}");
        if cells.len() != header.len() {
            return Err(format!("{place}: {} fields, but the header names {}", cells.len(), header.len()));
        }
        let fields = header.iter().map(|name| name.trim().to_owned()).zip(cells.into_iter().map(Value::String));
        Ok(Row { place, fields: fields.collect() })
    };
    records.map(row).collect()
}

/// Records with the lines on which they begin. A field in quotes may hold commas, line ends, and quotes written twice.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let (mut all, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut began, mut quoted) = (1, 1, None);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted.is_some() && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted.is_some() => quoted = None,
            '"' if field.is_empty() => quoted = Some(line),
            c if quoted.is_some() => field.push(c),
            ',' => record.push(std::mem::take(&mut field)),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                record.push(std::mem::take(&mut field));
                all.push((began, std::mem::take(&mut record)));
                began = line;
            }
            c => field.push(c),
        }
    }
    if let Some(line) = quoted {
        return Err(format!("line {line}: a quote is opened here and never closed"));
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        all.push((began, record));
    }
    all.retain(|(_, record)| record.len() > 1 || record.iter().any(|field| !field.trim().is_empty()));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_shapes_give_the_same_rows() {
        let csv = "\u{FEFF}a,b\r\n\"x, \"\"y\"\"\nz\",2\r\n\r\nw,\r\n";
        let found = rows(csv.as_bytes()).expect("parses");
        assert_eq!(found[0].text("a"), Some("x, \"y\"\nz"));
        assert_eq!((found[1].place.as_str(), found[1].text("b")), ("line 5", None));
        assert_eq!(found[1].one_of(&["c", "b"]), Err("line 5: there is no \"c\" or \"b\"".to_owned()));
        let json = "{\"a\": \"x, \\\"y\\\"\\nz\", \"b\": \"2\"}\n\n{\"a\": \"w\", \"b\": \"\"}";
        let list = format!("[{}]", json.replace("\n\n", ","));
        for other in [json, &list] {
            let other = rows(other.as_bytes()).expect("parses");
            assert!(other.iter().map(|r| &r.fields).eq(found.iter().map(|r| &r.fields)), "{other:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let wrong = |data: &[u8]| rows(data).expect_err("refused");
        assert_eq!(wrong(b"a,b\n1,2\n1\n"), "line 3: 1 fields, but the header names 2");
        assert_eq!(wrong(b"a\n\"x\n"), "line 2: a quote is opened here and never closed");
        assert_eq!(wrong(b"a\nx\n\xff"), "line 3 isn't UTF-8");
        assert!(wrong(b"{\"a\": 1}\n{\"a\":").starts_with("line 2: not a JSON object"));
        assert_eq!((wrong(b" \n").as_str(), wrong(b"a,b\n").as_str()), ("the file is empty", "the file has no rows"));
    }
}
