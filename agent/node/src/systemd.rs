//! Asking systemd for a unit's state, over D-Bus: one method call on a connection of its own.
//!
//! `systemctl is-active` would do, at ten times the price: a process, and a library larger than this agent, every few
//! seconds. As systemctl does for root, this talks to systemd's own socket and not to the bus.
//! Format: the D-Bus specification, "Message Protocol"; properties: org.freedesktop.systemd1(5).

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const SOCKET: &str = "/run/systemd/private";
/// The longest message that is read: an answer is some hundred bytes.
const MAX_BYTES: usize = 64 << 10;

/// What systemd calls the state of a unit: `active`, `inactive`, `failed` …
///
/// # Errors
/// systemd could not be asked, or answered with an error.
pub(crate) async fn active_state(unit: &str) -> io::Result<String> {
    let mut stream = connect(Path::new(SOCKET)).await?;
    let path = format!("/org/freedesktop/systemd1/unit/{}", label(unit));
    ask(&mut stream, &state_of(&path)).await
}

/// The call that asks for a unit's state.
fn state_of(path: &str) -> Call<'_> {
    Call {
        path,
        destination: "org.freedesktop.systemd1",
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        arguments: &["org.freedesktop.systemd1.Unit", "ActiveState"],
    }
}

/// A method call whose arguments are strings.
struct Call<'a> {
    path: &'a str,
    destination: &'a str,
    interface: &'a str,
    member: &'a str,
    arguments: &'a [&'a str],
}

/// Connects and authenticates as the user that this process runs as ("Authentication Protocol", EXTERNAL).
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    let uid = hex::encode(nix::unistd::geteuid().to_string());
    // In one go: systemd leaves a call lying that arrives in the same read as BEGIN.
    stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes()).await?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        // Nothing follows the line until something is asked.
        if line.len() > 256 || stream.read_buf(&mut line).await? == 0 {
            return Err(io::Error::other("the answer to authentication is cut short"));
        }
    }
    if !line.starts_with(b"OK ") {
        return Err(io::Error::other("authentication is refused"));
    }
    Ok(stream)
}

/// Calls, and returns the string that is answered, alone or in a variant.
async fn ask(stream: &mut UnixStream, call: &Call<'_>) -> io::Result<String> {
    stream.write_all(&write_call(call)).await?;
    loop {
        let mut message = vec![0; HEAD];
        stream.read_exact(&mut message).await?;
        let length = length(&message).filter(|l| *l <= MAX_BYTES);
        let length = length.ok_or_else(|| io::Error::other("the answer is no D-Bus message"))?;
        message.resize(length, 0);
        let rest = message.get_mut(HEAD..).unwrap_or_default();
        stream.read_exact(rest).await?;
        match read_reply(&message) {
            Some(Reply::Text(text)) => return Ok(text),
            Some(Reply::Error(text)) => return Err(io::Error::other(text)),
            // Signals may come between.
            Some(Reply::Other) => {}
            None => return Err(io::Error::other("the answer is no D-Bus message")),
        }
    }
}

/// The fixed part of a message and the length of its header fields.
const HEAD: usize = 16;
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// A unit's name as a part of an object's path: all but letters and digits, and a first digit, as `_` and two digits.
fn label(unit: &str) -> String {
    let mut text = String::new();
    for (i, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (i > 0 && byte.is_ascii_digit()) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("_{byte:02x}"));
        }
    }
    text
}

fn write_call(call: &Call<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    for argument in call.arguments {
        write_string(&mut body, argument);
    }
    let mut fields = Vec::new();
    write_field(&mut fields, 1, b'o', call.path);
    write_field(&mut fields, 3, b's', call.member);
    write_field(&mut fields, 2, b's', call.interface);
    write_field(&mut fields, 6, b's', call.destination);
    if !call.arguments.is_empty() {
        // The signature of the arguments: its length is one byte, unlike a string's.
        pad(&mut fields, 8);
        let count = u8::try_from(call.arguments.len()).unwrap_or(u8::MAX);
        fields.extend([8, 1, b'g', 0, count]);
        fields.extend(call.arguments.iter().map(|_| b's'));
        fields.push(0);
    }
    let mut message = vec![b'l', METHOD_CALL, 0, 1];
    message.extend(size(&body));
    message.extend(1_u32.to_le_bytes());
    message.extend(size(&fields));
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

fn write_field(fields: &mut Vec<u8>, code: u8, kind: u8, text: &str) {
    pad(fields, 8);
    fields.extend([code, 1, kind, 0]);
    write_string(fields, text);
}

fn write_string(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    bytes.extend(size(text.as_bytes()));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn size(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// What a message is to its reader.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Text(String),
    Error(String),
    Other,
}

/// The length of the message that begins like this.
fn length(head: &[u8]) -> Option<usize> {
    let number = |at| usize::try_from(number(head, at)?).ok();
    let body = HEAD.checked_add(number(12)?)?.checked_next_multiple_of(8)?;
    body.checked_add(number(4)?)
}

fn read_reply(message: &[u8]) -> Option<Reply> {
    let fields = usize::try_from(number(message, 12)?).ok()?;
    let body = message.get(HEAD.checked_add(fields)?.checked_next_multiple_of(8)?..)?;
    match *message.get(1)? {
        METHOD_RETURN => read_text(body).map(Reply::Text),
        ERROR => Some(Reply::Error(
            read_string(body).unwrap_or_else(|| "an error without text".to_owned()),
        )),
        _ => Some(Reply::Other),
    }
}

/// A body that is a string or a variant that holds one.
fn read_text(body: &[u8]) -> Option<String> {
    // A variant begins with its signature; as a string's length that would be 29,441, which no state has.
    match body.strip_prefix(b"\x01s\0\0") {
        Some(string) => read_string(string),
        None => read_string(body),
    }
}

fn read_string(bytes: &[u8]) -> Option<String> {
    let end = usize::try_from(number(bytes, 0)?).ok()?.checked_add(4)?;
    String::from_utf8(bytes.get(4..end)?.to_vec()).ok()
}

/// The number at this place. Little-endian, as this side writes: systemd and the bus answer in the order they are asked in
/// on every machine that Ballast is built for.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_units_name_becomes_a_part_of_a_path() {
        assert_eq!(label("consul.service"), "consul_2eservice");
        assert_eq!(label("1@a-b.service"), "_31_40a_2db_2eservice");
    }

    /// What systemd 257.13 answered `systemctl is-active consul.service` in 2026, as strace showed it.
    const ANSWER: &[u8] = b"l\x02\x01\x01\x0f\0\0\0\x01\0\0\x007\0\0\0\x05\x01u\0\x01\0\0\0\
        \x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x01v\0\0\
        \x01s\0\0\x06\0\0\0active\0";
    /// What systemctl had asked, as strace showed it, but for a flag that this side does not set.
    const QUESTION: &[u8] = b"l\x01\0\x014\0\0\0\x01\0\0\0\xa0\0\0\0\
        \x01\x01o\0/\0\0\0/org/freedesktop/systemd1/unit/consul_2eservice\0\
        \x03\x01s\0\x03\0\0\0Get\0\0\0\0\0\
        \x02\x01s\0\x1f\0\0\0org.freedesktop.DBus.Properties\0\
        \x06\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\
        \x08\x01g\0\x02ss\0\
        \x1d\0\0\0org.freedesktop.systemd1.Unit\0\0\0\x0b\0\0\0ActiveState\0";

    #[test]
    fn the_question_is_systemctls_own() {
        let written = write_call(&state_of("/org/freedesktop/systemd1/unit/consul_2eservice"));
        assert_eq!(written, QUESTION);
    }

    #[test]
    fn systemds_answer_is_read() {
        assert_eq!(length(ANSWER), Some(ANSWER.len()));
        assert_eq!(read_reply(ANSWER), Some(Reply::Text("active".to_owned())));
    }

    proptest! {
        #[test]
        fn no_bytes_at_all_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = length(&bytes);
            let _ = read_reply(&bytes);
        }
    }
}
