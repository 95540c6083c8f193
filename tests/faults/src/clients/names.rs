//! Asking Consul's DNS where a service is, as any client would: one question for addresses, one datagram (RFC 1035).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long one server is waited for.
const PATIENCE: Duration = Duration::from_millis(200);
const RESPONSE: u8 = 0x80;
const ADDRESS: u16 = 1;
const HEADER: usize = 12;

/// After none of them answered, how long nobody is asked.
const SILENCE: Duration = Duration::from_secs(5);

/// The name servers of a client.
pub struct Names {
    servers: Vec<SocketAddr>,
    /// The one that answered last, which is asked first.
    first: AtomicUsize,
    silent_since: Mutex<Option<Instant>>,
}

impl Names {
    /// These servers.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, first: AtomicUsize::new(0), silent_since: Mutex::new(None) }
    }

    /// Asks the servers one after another; the first that answers at all decides, be it with no address.
    ///
    /// # Errors
    /// Why none answered.
    pub async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        if self.silent_since().is_some_and(|since| since.elapsed() < SILENCE) {
            return Err("no name server answered a moment ago".to_owned());
        }
        let mut why = "no name server is known".to_owned();
        let first = self.first.load(Ordering::Relaxed);
        for (place, server) in
            self.servers.iter().enumerate().cycle().skip(first).take(self.servers.len())
        {
            match timeout(PATIENCE, ask(*server, name)).await {
                Ok(Ok(addresses)) => {
                    self.first.store(place, Ordering::Relaxed);
                    return Ok(addresses);
                }
                Ok(Err(reason)) => why = format!("{server}: {reason}"),
                Err(_) => why = format!("{server} does not answer"),
            }
        }
        *self.silent_since() = Some(Instant::now());
        Err(why)
    }

    fn silent_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(server: SocketAddr, name: &str) -> Result<Vec<IpAddr>, String> {
    let said = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map_err(said)?;
    socket.connect(server).await.map_err(said)?;
    let id = socket.local_addr().map_err(said)?.port();
    socket.send(&question(id, name)?).await.map_err(said)?;
    let mut answer = [0; 1232];
    loop {
        let length = socket.recv(&mut answer).await.map_err(said)?;
        let answer = answer.get(..length).unwrap_or_default();
        // Anything else is an answer to somebody else's question.
        if answer.get(..2) == Some(&id.to_be_bytes()) {
            return read_answer(answer).ok_or_else(|| "its answer cannot be read".to_owned());
        }
    }
}

fn question(id: u16, name: &str) -> Result<Vec<u8>, String> {
    let mut bytes = id.to_be_bytes().to_vec();
    // A standard query, recursion wished for; one question.
    bytes.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        bytes.push(length.ok_or_else(|| format!("{name:?} is no name"))?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(ADDRESS.to_be_bytes());
    bytes.extend([0, 1]);
    Ok(bytes)
}

/// The IPv4 addresses in an answer. A name that does not exist has none.
fn read_answer(bytes: &[u8]) -> Option<Vec<IpAddr>> {
    if bytes.get(2)? & RESPONSE == 0 {
        return None;
    }
    match bytes.get(3)? & 0x0f {
        0 => {}
        3 => return Some(Vec::new()),
        _ => return None,
    }
    let mut at = HEADER;
    for _ in 0..number(bytes, 4)? {
        at = after_name(bytes, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..number(bytes, 6)? {
        at = after_name(bytes, at)?;
        let (kind, length) = (number(bytes, at)?, usize::from(number(bytes, at + 8)?));
        at += 10;
        let data = bytes.get(at..at + length)?;
        if let (ADDRESS, [a, b, c, d]) = (kind, data) {
            addresses.push(IpAddr::from([*a, *b, *c, *d]));
        }
        at += length;
    }
    Some(addresses)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            // A pointer ends a name.
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Consul 1.8 answers: the question again, then the records, their names as pointers to it.
    fn answer(id: u16, name: &str, code: u8, addresses: &[[u8; 4]]) -> Vec<u8> {
        let mut bytes = question(id, name).unwrap();
        bytes[2] = 0x85;
        bytes[3] = code;
        bytes[7] = u8::try_from(addresses.len()).unwrap();
        for address in addresses {
            bytes.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            bytes.extend(address);
        }
        bytes
    }

    #[test]
    fn an_answers_addresses_are_read_and_a_name_that_is_not_there_has_none() {
        let read = |bytes: &[u8]| read_answer(bytes);
        let two = answer(7, "primary.main.service.consul", 0, &[[10, 0, 0, 1], [10, 0, 0, 2]]);
        assert_eq!(read(&two).unwrap(), [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]);
        assert_eq!(read(&answer(7, "x", 3, &[])), Some(Vec::new()));
        assert_eq!(read(&answer(7, "x", 2, &[])), None);
    }

    #[test]
    fn a_cut_answer_is_no_answer() {
        let whole = answer(7, "primary.main.service.consul", 0, &[[10, 0, 0, 1]]);
        for length in 0..whole.len() {
            assert_eq!(read_answer(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_name_server_is_asked_and_a_silent_one_passed_over() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let servers = [silent.local_addr().unwrap(), server.local_addr().unwrap()];
            tokio::spawn(async move {
                let mut bytes = [0; 512];
                let (_, from) = server.recv_from(&mut bytes).await.unwrap();
                let id = u16::from_be_bytes([bytes[0], bytes[1]]);
                server.send_to(&answer(id + 1, "a.b", 0, &[[1, 1, 1, 1]]), from).await.unwrap();
                server.send_to(&answer(id, "a.b", 0, &[[10, 0, 0, 9]]), from).await.unwrap();
            });
            let names = Names::new(servers.to_vec());
            assert_eq!(names.look_up("a.b").await.unwrap(), [IpAddr::from([10, 0, 0, 9])]);
            assert_eq!(names.first.load(Ordering::Relaxed), 1);
            let names = Names::new(servers[..1].to_vec());
            let why = names.look_up("a.b").await.unwrap_err();
            assert!(why.ends_with("does not answer"), "{why}");
            let why = names.look_up("a.b").await.unwrap_err();
            assert!(why.ends_with("a moment ago"), "{why}");
        });
    }
}
