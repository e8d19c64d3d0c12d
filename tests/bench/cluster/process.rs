//! A process as `/proc` shows it.

use std::fs;

/// In `/proc/<pid>/stat`: fixed on Linux, whatever the kernel's own tick is.
const TICKS_A_SECOND: f64 = 100.0;

pub(crate) struct Process(pub(crate) u32);

pub(crate) struct Memory {
    pub(crate) resident_mb: f64,
    /// Without file-backed pages.
    pub(crate) own_mb: f64,
    /// With shared pages divided among the processes that share them.
    pub(crate) shared_out_mb: f64,
    pub(crate) peak_mb: f64,
}

impl Process {
    fn read(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).expect("the process lives")
    }

    pub(crate) fn memory(&self) -> Memory {
        let (status, rollup) = (self.read("status"), self.read("smaps_rollup"));
        let mb = |text: &str, name: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("known to Linux");
            line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0 / 1e6
        };
        Memory {
            resident_mb: mb(&status, "VmRSS"),
            own_mb: mb(&status, "RssAnon"),
            shared_out_mb: mb(&rollup, "Pss"),
            peak_mb: mb(&status, "VmHWM"),
        }
    }

    pub(crate) fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.0)).expect("the process lives").count()
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0)).expect("the process lives").count()
    }

    /// User and system time so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = self.read("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("the name ends");
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |n: usize| fields[n].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / TICKS_A_SECOND
    }
}
