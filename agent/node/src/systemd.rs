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
    let call = Call {
        path: &format!("/org/freedesktop/systemd1/unit/{}", label(unit)),
        destination: "org.freedesktop.systemd1",
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        arguments: &["org.freedesktop.systemd1.Unit", "ActiveState"],
    };
    ask(&mut stream, &call).await
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
    let uid = nix::unistd::geteuid().to_string();
    let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
    // In one go: systemd leaves a call lying that arrives in the same read as BEGIN.
    stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes()).await?;
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
    write_field(&mut fields, 2, b's', call.interface);
    write_field(&mut fields, 3, b's', call.member);
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
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_units_name_becomes_a_part_of_a_path() {
        assert_eq!(label("consul.service"), "consul_2eservice");
        assert_eq!(label("1@a-b.service"), "_31_40a_2db_2eservice");
    }

    #[test]
    fn a_state_in_a_variant_is_read() {
        let mut message = vec![b'l', METHOD_RETURN, 1, 1];
        let body = b"\x01s\0\0\x06\0\0\0active\0";
        message.extend(size(body));
        message.extend(7_u32.to_le_bytes());
        message.extend(0_u32.to_le_bytes());
        message.extend(body);
        assert_eq!(length(&message), Some(message.len()));
        assert_eq!(read_reply(&message), Some(Reply::Text("active".to_owned())));
    }

    proptest! {
        #[test]
        fn no_bytes_at_all_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = length(&bytes);
            let _ = read_reply(&bytes);
        }
    }

    #[tokio::test]
    #[ignore = "needs BALLAST_DBUS_DAEMON, the path of dbus-daemon"]
    async fn a_bus_understands_what_is_written() {
        let program = std::env::var("BALLAST_DBUS_DAEMON").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("bus");
        let mut daemon = Command::new(program)
            .args(["--session", "--nofork", "--print-address"])
            .arg(format!("--address=unix:path={}", socket.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();

        let bus = |member, arguments| Call {
            path: "/org/freedesktop/DBus",
            destination: "org.freedesktop.DBus",
            interface: "org.freedesktop.DBus",
            member,
            arguments,
        };
        let mut stream = connect(&socket).await.unwrap();
        let name = ask(&mut stream, &bus("Hello", &[])).await.unwrap();
        assert!(name.starts_with(':'), "{name}");
        let owner =
            ask(&mut stream, &bus("GetNameOwner", &["org.freedesktop.DBus"])).await.unwrap();
        assert_eq!(owner, "org.freedesktop.DBus");
        let error = ask(&mut stream, &bus("GetNameOwner", &["no.such.name"])).await.unwrap_err();
        assert!(error.to_string().contains("no.such.name"), "{error}");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
}
