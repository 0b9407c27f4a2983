//! Passing an answer's events on, with something that is kept until the engine has made the last of them. May use: tokio.

use hone_domain::StreamEvent;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::Instrument;

/// Passes events on until the engine closes the channel, or nobody reads any more: then `saw`, and what it owns, is dropped. `saw` gets each
/// event as it comes, and `None` when the engine has closed the channel. The reader's pace changes nothing.
pub fn relay(
    mut events: UnboundedReceiver<StreamEvent>,
    mut saw: impl FnMut(Option<&StreamEvent>) + Send + 'static,
) -> UnboundedReceiver<StreamEvent> {
    let (send, passed_on) = unbounded_channel();
    let relay = async move {
        loop {
            tokio::select! {
                event = events.recv() => {
                    saw(event.as_ref());
                    let Some(event) = event else { break };
                    if send.send(event).is_err() {
                        break;
                    }
                }
                () = send.closed() => break,
            }
        }
    };
    tokio::spawn(relay.in_current_span());
    passed_on
}
