//! Threads that run peers: one loop over the sockets and timers of many.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::sync::oneshot;

use crate::measure::{Counters, Received};
use crate::peer::Peer;

const WAKE: Token = Token(usize::MAX);
/// How often every peer is looked at for pictures that stand still.
const ROUND: Duration = Duration::from_millis(50);

type Task = Box<dyn FnOnce(&mut Thread) + Send>;

/// A thread of peers.
#[derive(Clone)]
pub struct Worker {
    tasks: Sender<Task>,
    waker: Arc<Waker>,
    address: IpAddr,
}

/// A peer that lives in a thread.
#[derive(Clone)]
pub struct PeerHandle {
    worker: Worker,
    index: usize,
}

/// What a thread counted.
pub struct Count {
    pub counters: Counters,
    pub received: Vec<Received>,
}

impl Worker {
    /// Starts a thread whose peers have their sockets on `address`; it runs until [`Worker::stop`].
    pub fn start(address: IpAddr) -> Result<(Self, JoinHandle<()>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (tasks, queue) = channel();
        let thread = Thread { poll, peers: Vec::new(), counters: Counters::default(), stopped: false };
        let running = std::thread::Builder::new().name("peers".to_owned()).spawn(move || thread.run(&queue))?;
        Ok((Self { tasks, waker, address }, running))
    }

    /// Ends the thread: the process must not end while it is in the crypto library, whose memory is then gone.
    pub fn stop(&self) -> Result<()> {
        self.tasks
            .send(Box::new(|thread| thread.stopped = true))
            .map_err(|_| anyhow!("the thread of peers has ended"))?;
        Ok(self.waker.wake()?)
    }

    /// A new peer in this thread.
    pub async fn add(&self, name: String) -> Result<PeerHandle> {
        let peer = Peer::new(name, self.address)?;
        let index = self.run(|thread| thread.add(peer)).await??;
        Ok(PeerHandle { worker: self.clone(), index })
    }

    /// Begins to count anew.
    pub async fn restart_counting(&self) -> Result<()> {
        self.run(|thread| {
            let now = Instant::now();
            thread.counters = Counters::default();
            thread.peers.iter_mut().for_each(|peer| peer.restart_counting(now));
        })
        .await
    }

    /// What was counted since then; counting goes on without the counters of the thread.
    pub async fn count(&self) -> Result<Count> {
        self.run(|thread| {
            let now = Instant::now();
            let received = thread.peers.iter().map(|peer| peer.received(now)).collect();
            Count { counters: std::mem::take(&mut thread.counters), received }
        })
        .await
    }

    async fn run<R: Send + 'static>(&self, task: impl FnOnce(&mut Thread) -> R + Send + 'static) -> Result<R> {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |thread| {
            // Whoever asked may have given up.
            let _ = reply.send(task(thread));
        });
        self.tasks.send(task).map_err(|_| anyhow!("the thread of peers has ended"))?;
        self.waker.wake()?;
        answer.await.context("the thread of peers has ended")
    }
}

impl PeerHandle {
    /// Runs something on the peer, in its thread.
    pub async fn with<R: Send + 'static>(&self, task: impl FnOnce(&mut Peer) -> R + Send + 'static) -> Result<R> {
        let index = self.index;
        self.worker
            .run(move |thread| {
                let peer = thread.peers.get_mut(index).context("no such peer")?;
                let result = task(peer);
                peer.drain(&mut thread.counters)?;
                Ok(result)
            })
            .await?
    }
}

struct Thread {
    poll: Poll,
    peers: Vec<Peer>,
    counters: Counters,
    stopped: bool,
}

impl Thread {
    fn add(&mut self, mut peer: Peer) -> Result<usize> {
        let index = self.peers.len();
        self.poll.registry().register(&mut peer.socket, Token(index), Interest::READABLE)?;
        self.peers.push(peer);
        Ok(index)
    }

    fn run(mut self, queue: &Receiver<Task>) {
        if let Err(error) = self.serve(queue) {
            // A peer that fails makes the measurement worthless.
            eprintln!("callbench: {error:#}");
            std::process::exit(1);
        }
    }

    fn serve(&mut self, queue: &Receiver<Task>) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut readable: Vec<usize> = Vec::new();
        let mut round = Instant::now() + ROUND;
        while !self.stopped {
            for task in queue.try_iter() {
                task(self);
            }
            let now = Instant::now();
            for peer in &mut self.peers {
                if peer.next() <= now {
                    peer.advance(now, &mut self.counters)?;
                }
            }
            if round <= now {
                round = now + ROUND;
                for peer in &mut self.peers {
                    peer.ask_for_keys(now, &mut self.counters)?;
                }
            }
            let next = self.peers.iter().map(Peer::next).fold(round, Instant::min);
            let wait =
                if readable.is_empty() { next.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            self.poll.poll(&mut events, Some(wait))?;
            for event in &events {
                if event.token() != WAKE && !readable.contains(&event.token().0) {
                    readable.push(event.token().0);
                }
            }
            for index in std::mem::take(&mut readable) {
                if !self.peers[index].read(&mut self.counters)? {
                    readable.push(index);
                }
            }
        }
        Ok(())
    }
}
