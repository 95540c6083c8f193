//! The switch: an Ethernet hub in user space that joins QEMU machines over unix sockets.
//!
//! QEMU's `-netdev stream` sends each frame as a 4-byte big-endian length and the bytes. Links between any two ports
//! can be cut, restored and made lossy while the machines run. No interface of the host is touched, so it needs no
//! privilege.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, Result};

/// The largest frame taken: a jumbo frame with all offloads is below it.
const LARGEST_FRAME: usize = 1 << 17;
/// Frames a port may have waiting; a frozen machine loses what comes after, as at any switch.
const QUEUE: usize = 512;

type Frame = Arc<Vec<u8>>;
type Mac = [u8; 6];

/// The switch; dropping it does not stop its threads, which end with the machines' connections.
pub struct Hub {
    dir: PathBuf,
    wires: Arc<Mutex<Wires>>,
}

#[derive(Default)]
struct Wires {
    /// Ports with a machine plugged in, by machine name.
    ports: BTreeMap<String, SyncSender<Frame>>,
    /// Which port a hardware address was last seen at.
    learned: BTreeMap<Mac, String>,
    /// Pairs, in name order, that do not hear each other.
    cut: BTreeSet<(String, String)>,
    /// Ports that hear nobody and are not heard.
    isolated: BTreeSet<String>,
    /// Percent of frames lost, by pair.
    loss: BTreeMap<(String, String), u8>,
    /// State of the generator that decides which frame is lost: the same run loses the same ones.
    dice: u64,
}

impl Hub {
    /// A switch whose sockets stand in `dir`.
    pub fn new(dir: &Path) -> Self {
        let wires = Wires { dice: 0x9e37_79b9_7f4a_7c15, ..Wires::default() };
        Self { dir: dir.to_path_buf(), wires: Arc::new(Mutex::new(wires)) }
    }

    /// Opens a port for a machine and returns the socket to connect to. A machine that comes back connects again.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open_port(&self, machine: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{machine}.net"));
        let listener = UnixListener::bind(&path).map_err(Error::file("listening on", &path))?;
        let wires = Arc::clone(&self.wires);
        let name = machine.to_owned();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // A connection that breaks is a machine that went down: the port waits for the next one.
                let _ = serve(&wires, &name, stream);
                lock(&wires).ports.remove(&name);
            }
        });
        Ok(path)
    }

    /// Cuts the link between two machines, both ways.
    pub fn cut(&self, a: &str, b: &str) {
        lock(&self.wires).cut.insert(pair(a, b));
    }

    /// Restores the link between two machines.
    pub fn restore(&self, a: &str, b: &str) {
        lock(&self.wires).cut.remove(&pair(a, b));
    }

    /// Cuts a machine's link to everyone.
    pub fn isolate(&self, machine: &str) {
        lock(&self.wires).isolated.insert(machine.to_owned());
    }

    /// Restores a machine's link to everyone it is not cut from.
    pub fn rejoin(&self, machine: &str) {
        lock(&self.wires).isolated.remove(machine);
    }

    /// Loses this percentage of the frames between two machines.
    pub fn lose(&self, a: &str, b: &str, percent: u8) {
        lock(&self.wires).loss.insert(pair(a, b), percent);
    }
}

fn serve(wires: &Mutex<Wires>, name: &str, mut stream: UnixStream) -> io::Result<()> {
    let (queue, waiting) = sync_channel::<Frame>(QUEUE);
    let outgoing = stream.try_clone()?;
    thread::spawn(move || send_all(outgoing, &waiting));
    lock(wires).ports.insert(name.to_owned(), queue);
    while let Some(frame) = read_frame(&mut stream)? {
        lock(wires).pass_on(name, &Arc::new(frame));
    }
    Ok(())
}

fn send_all(mut stream: UnixStream, waiting: &Receiver<Frame>) {
    while let Ok(frame) = waiting.recv() {
        if write_frame(&mut stream, &frame).is_err() {
            return;
        }
    }
}

impl Wires {
    fn pass_on(&mut self, from: &str, frame: &Frame) {
        let (Some(to), Some(source)) = (mac(frame, 0), mac(frame, 6)) else { return };
        self.learned.insert(source, from.to_owned());
        // The lowest bit of the first byte marks a group address (IEEE 802.3).
        let group = to.first().is_some_and(|byte| byte & 1 == 1);
        let only = if group { None } else { self.learned.get(&to).cloned() };
        let targets: Vec<String> = match only {
            Some(port) => vec![port],
            None => self.ports.keys().cloned().collect(),
        };
        for port in targets {
            if port == from || self.is_cut(from, &port) || self.lost(from, &port) {
                continue;
            }
            if let Some(queue) = self.ports.get(&port) {
                // A full queue drops the frame.
                let _ = queue.try_send(Arc::clone(frame));
            }
        }
    }

    fn is_cut(&self, a: &str, b: &str) -> bool {
        self.isolated.contains(a) || self.isolated.contains(b) || self.cut.contains(&pair(a, b))
    }

    fn lost(&mut self, from: &str, to: &str) -> bool {
        let Some(percent) = self.loss.get(&pair(from, to)) else { return false };
        // Marsaglia's xorshift.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % 100 < u64::from(*percent)
    }
}

fn lock(wires: &Mutex<Wires>) -> MutexGuard<'_, Wires> {
    wires.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pair(a: &str, b: &str) -> (String, String) {
    if a < b { (a.to_owned(), b.to_owned()) } else { (b.to_owned(), a.to_owned()) }
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok()
}

/// One frame, or `None` at the end of the stream.
fn read_frame(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    if length > LARGEST_FRAME {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(Some(frame))
}

fn write_frame(stream: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(frame.len() + 4);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Station {
        stream: UnixStream,
        mac: Mac,
    }

    impl Station {
        fn plug_in(hub: &Hub, name: &str, last: u8) -> Self {
            let stream = UnixStream::connect(hub.open_port(name).unwrap()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            while !lock(&hub.wires).ports.contains_key(name) {
                thread::yield_now();
            }
            Self { stream, mac: [2, 0, 0, 0, 0, last] }
        }

        fn send(&mut self, to: Mac, text: &str) {
            let mut frame = to.to_vec();
            frame.extend_from_slice(&self.mac);
            frame.extend_from_slice(text.as_bytes());
            write_frame(&mut self.stream, &frame).unwrap();
        }

        fn hear(&mut self) -> String {
            let frame = read_frame(&mut self.stream).unwrap().unwrap();
            String::from_utf8(frame.get(12..).unwrap().to_vec()).unwrap()
        }
    }

    const EVERYONE: Mac = [0xff; 6];

    #[test]
    fn everyone_hears_a_broadcast_and_one_hears_what_is_meant_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::new(dir.path());
        let mut a = Station::plug_in(&hub, "a", 1);
        let mut b = Station::plug_in(&hub, "b", 2);
        let mut c = Station::plug_in(&hub, "c", 3);
        b.send(EVERYONE, "here is b");
        assert_eq!((a.hear(), c.hear()), ("here is b".into(), "here is b".into()));
        a.send(b.mac, "for b alone");
        a.send(EVERYONE, "for all");
        assert_eq!(b.hear(), "for b alone");
        assert_eq!(c.hear(), "for all");
    }

    #[test]
    fn a_cut_pair_hears_nothing_of_each_other_until_restored() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::new(dir.path());
        let mut a = Station::plug_in(&hub, "a", 1);
        let mut b = Station::plug_in(&hub, "b", 2);
        let mut c = Station::plug_in(&hub, "c", 3);
        hub.cut("b", "a");
        a.send(EVERYONE, "lost to b");
        assert_eq!(c.hear(), "lost to b");
        hub.restore("a", "b");
        a.send(EVERYONE, "heard by b");
        assert_eq!(b.hear(), "heard by b");
    }

    #[test]
    fn an_isolated_machine_hears_nobody_until_it_rejoins() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::new(dir.path());
        let mut a = Station::plug_in(&hub, "a", 1);
        let mut b = Station::plug_in(&hub, "b", 2);
        let mut c = Station::plug_in(&hub, "c", 3);
        hub.isolate("b");
        a.send(EVERYONE, "lost to b");
        assert_eq!(c.hear(), "lost to b");
        hub.rejoin("b");
        a.send(EVERYONE, "heard by b");
        assert_eq!(b.hear(), "heard by b");
    }

    #[test]
    fn a_lossy_link_loses_some_frames_and_not_all() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::new(dir.path());
        let mut a = Station::plug_in(&hub, "a", 1);
        let mut b = Station::plug_in(&hub, "b", 2);
        let mut c = Station::plug_in(&hub, "c", 3);
        hub.lose("a", "b", 50);
        for _ in 0..100 {
            a.send(EVERYONE, "maybe");
        }
        a.send(EVERYONE, "end");
        // Once this one has heard the end, all before it has been passed on.
        while c.hear() != "end" {}
        hub.lose("a", "b", 0);
        a.send(EVERYONE, "last");
        let heard = std::iter::from_fn(|| Some(b.hear())).take_while(|text| text != "last").count();
        assert!((20..80).contains(&heard), "heard {heard} of 100");
    }

    #[test]
    fn a_machine_that_comes_back_is_heard_again() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::new(dir.path());
        let mut a = Station::plug_in(&hub, "a", 1);
        let b = Station::plug_in(&hub, "b", 2);
        drop(b);
        while lock(&hub.wires).ports.contains_key("b") {
            thread::yield_now();
        }
        let stream = UnixStream::connect(dir.path().join("b.net")).unwrap();
        let mut b = Station { stream, mac: [2, 0, 0, 0, 0, 2] };
        b.send(EVERYONE, "back");
        assert_eq!(a.hear(), "back");
    }

    #[test]
    fn a_frame_longer_than_any_network_has_ends_the_connection() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0];
        assert!(read_frame(&mut bytes).is_err());
    }
}
