//! What the kernel says of processes, their children included: time, memory.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

/// A process and all that descend from it now.
pub(super) fn tree(process: u32) -> Vec<u32> {
    let mut all = vec![process];
    let mut at = 0;
    while let Some(process) = all.get(at) {
        let tasks = PathBuf::from(format!("/proc/{process}/task")).read_dir();
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    all
}

/// Processor time that these processes have used, in user space and in the kernel.
pub(super) fn cpu_time(processes: &[u32]) -> anyhow::Result<Duration> {
    processes.iter().map(|process| cpu_time_of(*process)).sum()
}

fn cpu_time_of(process: u32) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("process {process} is gone"))?;
    // The name, in parentheses, may contain anything.
    let (_, rest) = text.rsplit_once(')').context("/proc/PID/stat is no such thing")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let (user, system) = (ticks(11).context("utime")?, ticks(12).context("stime")?);
    Ok(of_ticks(user + system))
}

/// Time that all processors of the machine were busy.
pub(super) fn machine_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    let busy = [0, 1, 2, 5, 6].iter().map(|at| fields.get(*at).copied().unwrap_or_default());
    Ok(of_ticks(busy.sum()))
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(1000 * ticks / rustix::param::clock_ticks_per_second())
}

/// Memory of these processes that is in use now and that they share with nobody, in KiB.
pub(super) fn memory_kib(processes: &[u32]) -> anyhow::Result<u64> {
    let one = |process: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")).context("no Pss")?;
        Ok(kib.trim().parse::<u64>()?)
    };
    processes.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_some_of_both() {
        let own = tree(std::process::id());
        assert!(own.contains(&std::process::id()));
        assert!(memory_kib(&own[..1]).unwrap() > 100);
        assert!(cpu_time(&own[..1]).unwrap() <= machine_time().unwrap());
    }
}
