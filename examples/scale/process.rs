//! Reads the memory and CPU time of a process from the operating system.

use std::time::Duration;

use anyhow::Context;

/// Current and peak resident memory, in MiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) peak: f64,
}

/// Returns the memory of this process.
pub(crate) fn memory() -> anyhow::Result<Memory> {
    memory_in("self")
}

/// Returns the memory of a process.
pub(crate) fn memory_of(id: u32) -> anyhow::Result<Memory> {
    memory_in(&id.to_string())
}

fn memory_in(process: &str) -> anyhow::Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.context("memory is only known on Linux, while the process runs")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        anyhow::Ok(kib / 1024.0)
    };
    Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// Resets the peak memory of this process to its current memory.
pub(crate) fn forget_peak() -> anyhow::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("resetting the peak of memory")
}

/// Returns the CPU time of all threads of this process, including ended threads, in steps of 10 ms.
pub(crate) fn cpu() -> anyhow::Result<Duration> {
    cpu_in("self")
}

/// Returns the CPU time of a process in the same way.
pub(crate) fn cpu_of(id: u32) -> anyhow::Result<Duration> {
    cpu_in(&id.to_string())
}

fn cpu_in(process: &str) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The program name may contain blanks; the fields after it do not.
    let after_name = stat.rsplit_once(')').context("an unknown form")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| -> anyhow::Result<u64> { Ok(fields.get(at).context("too short")?.parse()?) };
    // utime and stime are fields 14 and 15 of the whole line. A tick is 10 ms on every current Linux.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}
