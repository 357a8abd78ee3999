//! What the kernel itself says of memory when it kills a process for want of it: the report that it writes before the kill,
//! on its console. Nothing has to look at the right moment for it.

use super::serial_log;
use crate::scenario::{FaultError, World};

/// A page of x86-64.
const PAGE_KIB: u64 = 4;

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// What could be had: free pages, those of files, and slab that can be reclaimed.
    pub(super) available_kib: u64,
    /// The pages that the kernel manages.
    pub(super) total_kib: u64,
    /// The lines that say so, and the kill's.
    pub(super) lines: Vec<String>,
}

impl Report {
    /// The available share, in percent.
    pub(super) fn available_percent(&self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of memory needs no more digits"
        )]
        let percent = self.available_kib as f64 * 100.0 / self.total_kib.max(1) as f64;
        percent
    }
}

/// The first report since `from` that ended in a kill of the whole host's; nothing where there is none yet.
pub(super) fn first_since(
    world: &World,
    host: &str,
    from: u64,
) -> Result<Option<Report>, FaultError> {
    Ok(first(&serial_log::lines_since(world, host, from)?))
}

/// A count behind its name, `free:3021`.
fn count(line: &str, name: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
}

/// The number before some words, `261998 pages RAM`.
fn before(line: &str, words: &str) -> Option<u64> {
    let (head, _) = line.split_once(words)?;
    head.split_whitespace().next_back()?.parse().ok()
}

fn first(lines: &[String]) -> Option<Report> {
    let begins = |line: &String| line.contains(" invoked oom-killer: ");
    let ends = |line: &String| line.contains("oom-kill:constraint=");
    let mut rest = lines;
    while let Some(begin) = rest.iter().position(begins) {
        let report = &rest[begin..];
        let length = report.iter().position(ends)?;
        // A report that another one is written into is read up to the first kill.
        if report[length].contains("CONSTRAINT_NONE")
            && let Some(read) = read(&report[..=length])
        {
            return Some(read);
        }
        rest = &report[length + 1..];
    }
    None
}

fn read(report: &[String]) -> Option<Report> {
    // The first of each is the whole host's; nodes and zones follow.
    let pages = |name: &str| report.iter().find_map(|line| count(line, name));
    let free = pages("free")?;
    let files = pages("active_file")? + pages("inactive_file")?;
    let available = free + files + pages("slab_reclaimable").unwrap_or(0);
    let number = |words: &str| report.iter().find_map(|line| before(line, words));
    let total = number(" pages RAM")?.checked_sub(number(" pages reserved").unwrap_or(0))?;
    let shown = |line: &&String| {
        count(line, "free").is_some_and(|pages| pages == free)
            || line.contains(" pages RAM")
            || line.contains("oom-kill:constraint=")
    };
    Some(Report {
        available_kib: available * PAGE_KIB,
        total_kib: total * PAGE_KIB,
        lines: report.iter().filter(shown).cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian 12's kernel writes it, shortened.
    const REPORT: &str = "\
[   32.401110] qemu-system-x86 invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0
[   32.401115] Mem-Info:
[   32.401117] active_anon:90 inactive_anon:480221 isolated_anon:0
[   32.401117]  active_file:31 inactive_file:12 isolated_file:0
[   32.401117]  slab_reclaimable:1500 slab_unreclaimable:2345
[   32.401117]  free:5021 free_pcp:60 free_cma:0
[   32.401120] Node 0 active_anon:360kB inactive_anon:1920884kB active_file:124kB
[   32.401125] Node 0 DMA free:8052kB boost:0kB min:348kB
[   32.401140] 549000 pages RAM
[   32.401141] 0 pages HighMem/MovableOnly
[   32.401142] 5573 pages reserved
[   32.408551] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task=qemu-system-x86,pid=182
[   32.409796] Out of memory: Killed process 182 (qemu-system-x86)";

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn e_the_kernels_report_tells_what_was_free_at_the_kill() {
        let report = first(&lines(REPORT)).expect("a report");
        assert_eq!(report.available_kib, (5021 + 31 + 12 + 1500) * 4);
        assert_eq!(report.total_kib, (549_000 - 5573) * 4);
        assert!(report.available_percent() < 2.0);
        assert_eq!(report.lines.len(), 3, "{:?}", report.lines);
    }

    #[test]
    fn e_a_report_is_used_once_it_is_whole_and_of_the_whole_host() {
        let all = lines(REPORT);
        // It is still being written.
        for end in 0..all.len() - 2 {
            assert_eq!(first(&all[..end]), None, "{end}");
        }
        let cgroup = REPORT.replace("CONSTRAINT_NONE", "CONSTRAINT_MEMCG");
        assert_eq!(first(&lines(&cgroup)), None);
        let both = format!("{cgroup}\n{REPORT}");
        assert!(first(&lines(&both)).is_some());
        // What a process wrote between the lines does no harm.
        let noise = REPORT.replace("Mem-Info:", "free:x\n[ 1.0] 99999999999999999999 pages RAM");
        let report = first(&lines(&noise)).expect("a report");
        assert_eq!(report.total_kib, (549_000 - 5573) * 4);
    }
}
