//! The life of a jail: programs are started and killed as the node says, and every end is told.

use super::super::protocol::{Ended, How, ToJail};
use super::spawn::{Program, Spawner};
use super::wire::{Event, Wire, unexpected};
use super::{RUNS_MAX, sys};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// What runs, by process.
pub(super) struct Runs<'a> {
    spawner: Spawner<'a>,
    running: HashMap<Pid, u64>,
}

impl<'a> Runs<'a> {
    pub(super) fn new(spawner: Spawner<'a>) -> Self {
        Self { spawner, running: HashMap::new() }
    }

    /// Runs what the node says until it closes the socket. What runs then dies with this process, the first of its pid
    /// namespace.
    ///
    /// * returns: the jail's exit code.
    pub(super) fn serve(mut self, node: &mut Wire) -> i32 {
        loop {
            match self.step(node) {
                Ok(true) => {}
                Ok(false) => return 0,
                // The node sees the end of the socket, and its calls fail.
                Err(_) => return 1,
            }
        }
    }

    fn step(&mut self, node: &mut Wire) -> io::Result<bool> {
        match node.next()? {
            Event::Closed => return Ok(false),
            Event::Children => self.reap(node)?,
            Event::Packet(ToJail::Kill { id }, _) => self.kill(id),
            Event::Packet(ToJail::Run { id, argv, environment, limits }, files) => {
                let files = <[OwnedFd; 4]>::try_from(files).map_err(|_| unexpected())?;
                let started = match self.running.len() < RUNS_MAX {
                    true => self.spawner.start(&Program { files, argv, environment, limits }),
                    false => Err(format!("{RUNS_MAX} programs run in this jail already")),
                };
                match started {
                    Ok(pid) => drop(self.running.insert(pid, id)),
                    Err(why) => {
                        node.send(&Ended { id, how: How::NotStarted(why), peak_memory: 0, cpu: Duration::ZERO })?;
                    }
                }
            }
        }
        Ok(true)
    }

    fn reap(&mut self, node: &Wire) -> io::Result<()> {
        while let Some(sys::Ended { pid, how, peak_memory, cpu }) = sys::reap()? {
            // One that did not start has been told already.
            if let Some(id) = self.running.remove(&pid) {
                node.send(&Ended { id, how, peak_memory, cpu })?;
            }
        }
        Ok(())
    }

    /// A process is its own whole tree: programs cannot make others.
    fn kill(&self, wanted: u64) {
        for (pid, _) in self.running.iter().filter(|(_, id)| **id == wanted) {
            // It has ended and is not reaped yet.
            let _ = kill_process(*pid, Signal::KILL);
        }
    }
}
