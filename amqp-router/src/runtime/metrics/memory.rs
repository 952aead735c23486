//! What memory the process has.

/// Octets of memory of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) virtual_size: u64,
    pub(crate) resident: u64,
}

impl Memory {
    /// Where the system tells.
    pub(crate) fn now() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let octets = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kibibytes * 1024)
        };
        Some(Self {
            virtual_size: octets("VmSize:")?,
            resident: octets("VmRSS:")?,
        })
    }

    /// Octets that the program has freed and its allocator keeps, where that can be asked.
    pub(crate) fn unused() -> u64 {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        if let Ok(malloc) = malloc_info::malloc_info() {
            use malloc_info::info::TotalType;
            let free = malloc.total.iter().filter_map(|total| match total.r#type {
                TotalType::Fast | TotalType::Rest => u64::try_from(total.size).ok(),
                TotalType::Mmap | TotalType::Other => None,
            });
            return free.sum();
        }
        0
    }
}
