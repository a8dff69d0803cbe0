//! A slow line out of a machine: its packets go into a TUN device, wait as [`Shaper`] says, and are routed on from there.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tun_tap::{Iface, Mode};

use super::shaper::{Fates, Line, Manner, Shaper};
use super::tools::{Entered, ip, script};
use crate::Trouble;

/// Name of the device in its machine.
const DEVICE: &str = "slow";
/// Table of routes for what comes out of it.
const TABLE: &str = "77";
/// Longer than any packet of these networks.
const PACKET_MAX: usize = 2_048;

/// When a packet leaves, and the packet.
type Leaving = (Duration, Vec<u8>);

/// Two threads, one that reads packets and one that lets them go. They and the device end with this.
#[derive(Debug)]
pub struct Forwarder {
    space: String,
    shaper: Arc<Mutex<Shaper>>,
    threads: Vec<JoinHandle<()>>,
}

impl Forwarder {
    /// Slows what the machine in namespace `space`, whose address is `own`, sends to `peers`, all in `net`.
    ///
    /// # Errors
    /// [`Trouble::Tool`].
    pub fn start(
        space: &str,
        own: &str,
        net: &str,
        peers: &[String],
        manner: Manner,
        seed: u64,
    ) -> Result<Self, Trouble> {
        let device = Arc::new(open(space)?);
        let shaper = Arc::new(Mutex::new(Shaper::new(manner, seed)));
        let (sender, receiver) = channel();
        let began = Instant::now();
        let (read_from, decides) = (Arc::clone(&device), Arc::clone(&shaper));
        let threads = vec![
            std::thread::spawn(move || read(&read_from, &decides, began, &sender)),
            std::thread::spawn(move || write(&device, began, &receiver)),
        ];
        // From here on its end undoes what has been done.
        let forwarder = Self { space: space.to_owned(), shaper, threads };
        // What comes out of the device bears the machine's own address, and goes on by the uplink.
        script(
            space,
            &format!(
                "cd /proc/sys/net/ipv4 && echo 1 >ip_forward && echo 0 >conf/all/rp_filter && \
                 echo 0 >conf/{DEVICE}/rp_filter && echo 1 >conf/{DEVICE}/accept_local"
            ),
        )?;
        ip(&format!("-n {space} link set {DEVICE} up"))?;
        ip(&format!("-n {space} rule add iif {DEVICE} lookup {TABLE}"))?;
        ip(&format!("-n {space} route add {net} dev uplink table {TABLE}"))?;
        for peer in peers {
            ip(&format!("-n {space} route add {peer}/32 dev {DEVICE} src {own}"))?;
        }
        Ok(forwarder)
    }

    /// What became of the packets up to now.
    #[must_use]
    pub fn fates(&self) -> Fates {
        self.shaper.lock().unwrap_or_else(PoisonError::into_inner).fates()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let space = &self.space;
        // Its routes go with the device, and the one who reads it is told.
        let _ = ip(&format!("-n {space} link delete {DEVICE}"));
        let _ = ip(&format!("-n {space} rule delete iif {DEVICE} lookup {TABLE}"));
        let _ = ip(&format!("-n {space} route flush table {TABLE}"));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Opens the device, by a thread that goes into the namespace for it.
fn open(space: &str) -> Result<Iface, Trouble> {
    let failed = |said: String| Trouble::Tool { command: format!("opening a TUN device in {space}"), said };
    let opened = std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let entered = Entered::new(space)?;
            let device = Iface::without_packet_info(DEVICE, Mode::Tun);
            drop(entered);
            device.map_err(|e| failed(e.to_string()))
        });
        opening.join()
    });
    opened.unwrap_or_else(|_| Err(failed("the thread failed".into())))
}

fn read(device: &Iface, shaper: &Mutex<Shaper>, began: Instant, line: &Sender<Leaving>) {
    let mut packet = vec![0; PACKET_MAX];
    loop {
        let length = match device.recv(&mut packet) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The device has gone.
            Err(_) => return,
        };
        let times = shaper.lock().unwrap_or_else(PoisonError::into_inner).fate(began.elapsed());
        for leaves in times {
            if line.send((leaves, packet[..length].to_vec())).is_err() {
                return;
            }
        }
    }
}

fn write(device: &Iface, began: Instant, coming: &Receiver<Leaving>) {
    let mut line = Line::default();
    loop {
        let pause = line.next().map_or(Duration::from_secs(1), |next| next.saturating_sub(began.elapsed()));
        match coming.recv_timeout(pause) {
            // What finds no room is lost.
            Ok((leaves, packet)) => drop(line.put(leaves, packet)),
            Err(RecvTimeoutError::Timeout) => {}
            // What is under way is lost with the line.
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(packet) = line.take(began.elapsed()) {
            // The machine may refuse one, as a network may lose one.
            let _ = device.send(&packet);
        }
    }
}
