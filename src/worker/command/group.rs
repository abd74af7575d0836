//! A command and its descendants, as one process group that does not outlive us.
//!
//! Invariant: once `attend` has returned, or the group was dropped, nothing of it runs any more, but for what left the group on purpose.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout_at,
};

use crate::{client::clock, worker::Stop};

/// See the module.
pub(super) struct Group {
    leader: Child,
    id: Pid,
    over: bool,
}

/// Our ends of the command's standard streams.
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

/// How a command ended.
#[derive(Debug)]
pub(super) enum Ended {
    ByItself(ExitStatus),
    /// After it was asked to; how it ended is its answer.
    Stopped(Stop, ExitStatus),
}

impl Group {
    /// Starts a command, whose standard streams must be piped, as the leader of a new group.
    pub(super) fn start(mut command: Command) -> io::Result<(Self, Pipes)> {
        let mut leader = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = leader
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the process has no id"))?;
        let group_of = |leader| Self {
            leader,
            id,
            over: false,
        };
        match (
            leader.stdin.take(),
            leader.stdout.take(),
            leader.stderr.take(),
        ) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok((
                group_of(leader),
                Pipes {
                    stdin,
                    stdout,
                    stderr,
                },
            )),
            _ => {
                drop(group_of(leader));
                Err(io::Error::other("the standard streams are not piped"))
            }
        }
    }

    /// Waits for the command to end, or makes it end when `stop` resolves: SIGTERM, then SIGKILL after the grace.
    pub(super) async fn attend(
        &mut self,
        stop: impl Future<Output = Stop>,
        grace: impl FnOnce(&Stop) -> Duration,
    ) -> io::Result<Ended> {
        tokio::select! {
            biased;
            status = self.leader.wait() => {
                let status = status?;
                self.kill();
                Ok(Ended::ByItself(status))
            }
            stop = stop => {
                let kill_at = clock::now() + grace(&stop);
                self.signal(Signal::TERM);
                // The command is over when its leader is, as when it ends by itself; what it left behind is not waited for.
                let in_time = timeout_at(kill_at, self.leader.wait()).await;
                self.kill();
                let status = match in_time {
                    Ok(status) => status?,
                    Err(_) => self.leader.wait().await?,
                };
                Ok(Ended::Stopped(stop, status))
            }
        }
    }

    /// Right after the leader was reaped its id still names the group, or nothing: the kernel does not hand it out again so soon.
    fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.over = true;
    }

    /// An error means that the group is gone, which is what signals are for.
    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.id, signal) {
            tracing::trace!(%error, "no process group to signal");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.over {
            self.kill();
        }
    }
}
