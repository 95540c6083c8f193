//! Looks at a member's agent: one small UDP datagram, answered by a thread that does nothing else.
//!
//! UDP, because a lost datagram costs one look, and a lost segment of a connection would cost the next ones too. A thread
//! of its own, so that nothing else that the agent does can keep it from saying that its machine lives.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Where agents answer.
pub(crate) const PORT: u16 = 8511;

const QUESTION: [u8; 8] = *b"ballast?";
const ANSWER: [u8; 8] = *b"ballast!";
/// A datagram: what it is, and the number of the look, which the answer repeats.
const LENGTH: usize = 16;

/// A question with this number.
pub(super) fn question(number: u64) -> [u8; LENGTH] {
    datagram(QUESTION, number)
}

/// The number of the look that a datagram answers, if it is an answer.
pub(super) fn read_answer(datagram: &[u8]) -> Option<u64> {
    read(ANSWER, datagram)
}

fn datagram(kind: [u8; 8], number: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&kind);
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn read(kind: [u8; 8], datagram: &[u8]) -> Option<u64> {
    let number = datagram.strip_prefix(&kind)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

/// Answers every question from one of these addresses, for as long as the agent runs. No answer is longer than its
/// question, and nobody else gets one.
///
/// # Errors
/// The socket is none any more.
pub(super) fn answer_all(socket: &UdpSocket, observers: &[IpAddr]) -> io::Result<()> {
    // One more than a datagram has, to know a longer one.
    let mut buffer = [0; LENGTH + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // An answer that could not be delivered is told to the next who asks.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if !observers.contains(&from.ip().to_canonical()) {
            continue;
        }
        let number = buffer.get(..length).and_then(|bytes| read(QUESTION, bytes));
        if let Some(number) = number {
            // What is lost is asked again.
            let _ = socket.send_to(&datagram(ANSWER, number), from);
        }
    }
}

/// Binds where this node answers.
///
/// # Errors
/// Somebody else has the port.
pub(super) fn bind(any: IpAddr, port: u16) -> io::Result<UdpSocket> {
    UdpSocket::bind(SocketAddr::new(any, port))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn answering(observers: Vec<IpAddr>) -> SocketAddr {
        let socket = bind(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || answer_all(&socket, &observers));
        address
    }

    fn ask(address: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.send_to(datagram, address).unwrap();
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    #[test]
    fn an_observer_is_answered_with_the_number_it_asked_by() {
        let address = answering(vec![Ipv4Addr::LOCALHOST.into()]);
        for number in [0, 7, u64::MAX] {
            let answer = ask(address, &question(number)).unwrap();
            assert_eq!(read_answer(&answer), Some(number));
        }
    }

    #[test]
    fn a_stranger_gets_no_answer() {
        let address = answering(vec![[10, 0, 0, 1].into()]);
        assert_eq!(ask(address, &question(1)), None);
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let address = answering(vec![Ipv4Addr::LOCALHOST.into()]);
        let long = [&question(1)[..], &[0; 40]].concat();
        for wrong in [&b""[..], &question(1)[..15], &long, &datagram(ANSWER, 1)] {
            assert_eq!(ask(address, wrong), None, "{wrong:?}");
        }
    }
}
