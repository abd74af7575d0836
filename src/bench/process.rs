//! What Linux says of a process: its processor time and its memory.

use std::{fs, time::Duration};

use super::BenchError;

/// Ticks in a second in /proc, on every architecture that Linux runs on today.
const TICKS_PER_SECOND: u64 = 100;

/// A process to look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauge(pub(super) u32);

impl Gauge {
    /// Processor time so far, all threads, in user and kernel mode.
    pub(super) fn cpu(self) -> Result<Duration, BenchError> {
        let stat = self.read("stat")?;
        // The name in parentheses may hold anything; fields are counted from behind it.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: Option<u64> = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().ok())
            .sum();
        let ticks = ticks.ok_or_else(|| self.odd("stat"))?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Resident memory, in bytes.
    pub(super) fn memory(self) -> Result<u64, BenchError> {
        let status = self.read("status")?;
        let kilobytes: Option<u64> = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|value| value.trim().strip_suffix("kB")?.trim().parse().ok());
        Ok(kilobytes.ok_or_else(|| self.odd("status"))? * 1024)
    }

    fn read(self, file: &str) -> Result<String, BenchError> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).map_err(BenchError::io(format!("can't read {path}")))
    }

    fn odd(self, file: &str) -> BenchError {
        BenchError::Broken(format!("/proc/{}/{file} is not as Linux writes it", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let gauge = Gauge(std::process::id());
        assert!(gauge.memory().expect("a figure") > 100_000);
        assert!(gauge.cpu().expect("a figure") < Duration::from_secs(3600));
    }
}
