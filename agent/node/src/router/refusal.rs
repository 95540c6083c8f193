//! What a client is told that can't have a session, in words of its protocol, so that it tries again and says why.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::settings::Kind;

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// There is nobody to lead it to.
    Nobody,
    /// There are as many as there may be.
    Full,
}

/// How long a client may take to say what it wants and to hear that it can't have it.
const DEADLINE: Duration = Duration::from_secs(2);

/// PostgreSQL's `SSLRequest` and `GSSENCRequest`, by their codes.
const ENCRYPTIONS: [u32; 2] = [80_877_103, 80_877_104];
const CANCEL: u32 = 80_877_102;

/// Tells a client why, and ends its connection; `said` is what it said so far.
pub(super) async fn refuse(
    mut client: TcpStream,
    kind: Kind,
    reason: Reason,
    why: &str,
    said: Vec<u8>,
) {
    let told = timeout(DEADLINE, tell(&mut client, kind, reason, why, said)).await;
    if !matches!(told, Ok(Ok(()))) {
        let _ = client.set_zero_linger();
    }
}

async fn tell(
    client: &mut TcpStream,
    kind: Kind,
    reason: Reason,
    why: &str,
    mut said: Vec<u8>,
) -> std::io::Result<()> {
    match kind {
        Kind::Tcp => return Err(std::io::ErrorKind::ConnectionReset.into()),
        Kind::Redis => client.write_all(redis(reason, why).as_bytes()).await?,
        Kind::Postgres => {
            loop {
                while said.len() < 8 {
                    if client.read_buf(&mut said).await? == 0 {
                        return Ok(());
                    }
                }
                match code(&said) {
                    Some(code) if ENCRYPTIONS.contains(&code) => {
                        // Not encrypted: an error in place of this answer is one that clients do not show.
                        client.write_all(b"N").await?;
                        said.drain(..8);
                    }
                    Some(CANCEL) | None => return Ok(()),
                    Some(_) => break,
                }
            }
            client.write_all(&postgres(reason, why)).await?;
        }
    }
    client.shutdown().await?;
    // What is still coming in would turn the end into a reset, and the words would be lost.
    let mut rest = [0; 1024];
    while client.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The code in a message without a type, as a session begins with one.
pub(super) fn code(said: &[u8]) -> Option<u32> {
    said.get(4..8)?.try_into().ok().map(u32::from_be_bytes)
}

/// Whether a session begins with the wish to encrypt it.
pub(super) fn asks_for_encryption(said: &[u8]) -> bool {
    code(said).is_some_and(|code| ENCRYPTIONS.contains(&code))
}

/// An `ErrorResponse`: `cannot_connect_now`, which clients take for a server that starts, or `too_many_connections`.
pub(super) fn postgres(reason: Reason, why: &str) -> Vec<u8> {
    let state = match reason {
        Reason::Nobody => "57P03",
        Reason::Full => "53300",
    };
    let fields = [('S', "FATAL"), ('V', "FATAL"), ('C', state), ('M', why)];
    let mut body = Vec::new();
    for (kind, text) in fields {
        body.extend(kind.to_string().bytes());
        body.extend(text.bytes().filter(|b| *b != 0).take(1_000));
        body.push(0);
    }
    body.push(0);
    let mut message = vec![b'E'];
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    message.extend(length.to_be_bytes());
    message.extend(body);
    message
}

/// An error reply. `LOADING` is what Redis says while it starts: clients wait and try again.
pub(super) fn redis(reason: Reason, why: &str) -> String {
    let why: String = why.chars().filter(|c| !c.is_control()).take(1_000).collect();
    match reason {
        Reason::Nobody => format!("-LOADING {why}\r\n"),
        Reason::Full => format!("-ERR max number of clients reached: {why}\r\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgresql_is_told_as_the_protocol_says() {
        let message = postgres(Reason::Nobody, "why");
        assert_eq!(message, b"E\0\0\0\x1fSFATAL\0VFATAL\0C57P03\0Mwhy\0\0");
    }

    #[test]
    fn a_reason_cannot_end_redis_line() {
        assert_eq!(redis(Reason::Nobody, "a\r\n+OK\r\n"), "-LOADING a+OK\r\n");
    }
}
