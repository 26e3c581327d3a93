//! Commands on a virtual host, by the agent of `tests/lab/guest`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// Where the agent takes a script.
const SCRIPTS: u16 = 7000;

/// Where the volume daemon's socket is to be had.
const DAEMON: u16 = 7001;

/// How long a host that is cut off, frozen or dead is called in vain.
const CONNECT: Duration = Duration::from_secs(10);

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    /// The exit status; 124 where its time was over.
    pub(crate) status: i32,
    /// What it printed.
    pub(crate) out: String,
    /// What it complained of.
    pub(crate) err: String,
}

/// The way to the agent of one host: a network that only the lab's namespace has.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) holder: String,
    pub(super) number: u8,
}

impl Agent {
    /// Runs a script of bash for so many seconds at most.
    ///
    /// # Errors
    /// Where the host gives no answer: it is frozen, or without power.
    pub(super) fn run(&self, seconds: u32, script: &str) -> io::Result<Done> {
        let limit = CONNECT.min(Duration::from_secs(seconds.into()));
        let mut stream = self.connect(SCRIPTS, limit)?;
        stream.set_read_timeout(Some(Duration::from_secs(u64::from(seconds) + 15)))?;
        stream.write_all(format!("{seconds} {}\n{script}", script.len()).as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        reader.read_line(&mut head)?;
        let [status, out, err] = numbers(&head)?;
        let out = text(&mut reader, out)?;
        let err = text(&mut reader, err)?;
        let status = i32::try_from(status).map_err(io::Error::other)?;
        Ok(Done { status, out, err })
    }

    /// A connection to the volume daemon.
    pub(super) fn daemon(&self) -> io::Result<TcpStream> {
        self.connect(DAEMON, CONNECT)
    }

    /// A socket stays in the network namespace in which it was made; the thread's end gives up
    /// the namespace.
    fn connect(&self, port: u16, limit: Duration) -> io::Result<TcpStream> {
        let network = File::open(format!("/proc/{}/ns/net", self.holder))?;
        let address = SocketAddr::from(([10, 78, 0, 10 + self.number], port));
        let connect = move || {
            setns(&network, CloneFlags::CLONE_NEWNET)?;
            TcpStream::connect_timeout(&address, limit)
        };
        thread::spawn(connect).join().expect("connecting does not panic")
    }
}

fn numbers(head: &str) -> io::Result<[usize; 3]> {
    let numbers: Vec<usize> = head.split_whitespace().map_while(|n| n.parse().ok()).collect();
    numbers.try_into().map_err(|_| {
        io::Error::new(io::ErrorKind::UnexpectedEof, format!("the agent said {head:?}"))
    })
}

fn text(reader: &mut impl Read, length: usize) -> io::Result<String> {
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
