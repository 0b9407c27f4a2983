//! What each connection gets: small packets sent at once, and an eye on its client. One that has gone away while its answer is still being
//! made is noticed, so that nothing more is computed for it: actix tells only when it writes; until then an answer that isn't streamed would
//! be waited for, computed and kept for nobody.

use super::error::{ApiError, Code};
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use std::any::Any;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};

/// A second handle on a connection's socket, to look at it. It lives and dies with the connection's data.
struct Socket(OwnedFd);

/// Has each new connection send at once, and keeps a handle on it.
pub fn on_connect(connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
    // Else the kernel keeps a token back until the client has confirmed the one before, which clients put off by up to 40 ms. Where it can't be
    // had, the answer is right all the same.
    let _as_it_was = stream.set_nodelay(true);
    let handle = stream.as_fd().try_clone_to_owned();
    // Out of handles: then this client's leaving is noticed when its answer is written.
    if let Ok(socket) = handle {
        data.insert(Socket(socket));
    }
}

/// Works on `answer` until it is there or the client is gone.
///
/// # Errors
/// What `answer` says; or that nobody waits for it any more, which nobody will read.
pub async fn while_here<T, E: Into<ApiError>>(
    request: &HttpRequest,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, ApiError> {
    tokio::select! {
        answer = answer => answer.map_err(Into::into),
        () = gone(request) => Err(ApiError::new(Code::ClientGone, "the client has gone")),
    }
}

async fn gone(request: &HttpRequest) {
    let looks_at = |socket: &Socket| TcpStream::from_std(socket.0.try_clone()?.into());
    if let Some(Ok(stream)) = request.conn_data::<Socket>().map(looks_at) {
        match stream.peek(&mut [0]).await {
            Ok(0) | Err(_) => return,
            // The client has sent its next request already, so it is there.
            Ok(_) => {}
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[actix_web::test]
    async fn a_token_isnt_kept_back_for_the_one_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.expect("a connection");
        assert!(!stream.nodelay().expect("tells"), "the system's default");
        on_connect(&stream, &mut Extensions::default());
        assert!(stream.nodelay().expect("tells"));
    }
}
