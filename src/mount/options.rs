//! Mount options: ours → fuser's.
//!
//! On the `fusermount3` way all options travel in one comma-separated string, so nothing that comes from outside may hold a comma:
//! such a value is refused, not escaped. The kernel's `ro` is never set: it would refuse our own notices of growth (utimensat) too;
//! the daemon refuses every change itself.

use crate::error::{Error, ErrorKind};
use fuser::{Config, MountOption, SessionACL};
use std::fs::OpenOptions;

/// Threads that take requests from the kernel. None of them ever waits; a second one only hides a slow pread.
const THREADS: usize = 2;

/// What a mount is asked for.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// The region, for the source name `cwlogs:REGION`.
    pub region: String,
    /// Let every user in.
    pub allow_other: bool,
    /// Let root in.
    pub allow_root: bool,
    /// Further options for the kernel, one each.
    pub extra: Vec<String>,
}

impl MountOptions {
    /// What fuser is to be given.
    pub(crate) fn to_fuser(&self) -> Result<Config, Error> {
        let mut options = vec![
            MountOption::FSName(source_name(&self.region)?),
            // Not `Subtype`, which fuser drops where it mounts by itself (as root); this reaches the kernel and fusermount3 alike.
            MountOption::CUSTOM("subtype=cwlogs".to_owned()),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoSuid,
            MountOption::NoExec,
        ];
        for option in &self.extra {
            if option.is_empty() || !option.chars().all(|c| c.is_ascii_alphanumeric() || "_=.-:".contains(c)) {
                return Err(Error::new(ErrorKind::Invalid, option, "this mount option can't be passed on"));
            }
            options.push(MountOption::CUSTOM(option.clone()));
        }
        let mut config = Config::default();
        config.mount_options = options;
        config.acl = match (self.allow_other, self.allow_root) {
            (true, _) => SessionACL::All,
            (false, true) => SessionACL::RootAndOwner,
            (false, false) => SessionACL::Owner,
        };
        config.n_threads = Some(THREADS);
        config.clone_fd = can_open_device();
        Ok(config)
    }
}

/// `cwlogs:REGION`, as `mount` and `findmnt` show it.
fn source_name(region: &str) -> Result<String, Error> {
    if region.is_empty() || !region.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(Error::new(ErrorKind::Invalid, region, "a region is made of letters, digits and dashes"));
    }
    Ok(format!("cwlogs:{region}"))
}

/// With `clone_fd` each thread opens the device itself; where that can't be done again, they share one descriptor.
fn can_open_device() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(region: &str) -> MountOptions {
        MountOptions { region: region.to_owned(), ..MountOptions::default() }
    }

    #[test]
    fn a_region_can_not_smuggle_in_options() {
        assert!(options("eu-west-1,allow_other").to_fuser().is_err());
        assert!(options("").to_fuser().is_err());
        let mut extra = options("eu-west-1");
        extra.extra = vec!["max_read=1,suid".to_owned()];
        assert!(extra.to_fuser().is_err());
    }

    #[test]
    fn the_mount_has_its_name_and_is_not_ro() {
        let config = options("eu-west-1").to_fuser().unwrap();
        assert!(config.mount_options.contains(&MountOption::FSName("cwlogs:eu-west-1".to_owned())));
        assert!(config.mount_options.contains(&MountOption::CUSTOM("subtype=cwlogs".to_owned())));
        assert!(!config.mount_options.contains(&MountOption::RO));
        assert!(!config.mount_options.contains(&MountOption::AutoUnmount));
        assert_eq!(config.acl, SessionACL::Owner);
    }

    #[test]
    fn who_is_let_in() {
        let acl = |allow_other, allow_root| {
            MountOptions { allow_other, allow_root, ..options("demo") }.to_fuser().unwrap().acl
        };
        assert_eq!(acl(true, false), SessionACL::All);
        assert_eq!(acl(false, true), SessionACL::RootAndOwner);
    }
}
