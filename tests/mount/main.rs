//! The daemon on real mounts, with real tools, over a server that speaks the service's protocol.
//!
//! `world` is what each test stands in. `tools` compares 286 commands with plain files · `content` bytes against the oracle ·
//! `ahead` what is read side by side and ahead of a reader · `follow` tails and inotify · `waiting` long waits and signals · `restart` what a second mount asks for · `folder` big listings
//! and names · `renditions` files in other formats · `sizes` copies by the size that was told · `damage` a cache that is too small, full or damaged · `cache_folder` a folder that holds something else · `settings` of the AWS CLI · `sick_streams` a disk that fails on one stream's files · `offline` outages and expired credentials · `permissions` each that may be missing · `users` who mounts
//! and who reads · `verify` the copy proved · `warm` what reads of cached files cost · `lifecycle` starting and ending · `automount` starts that others wait for · `kills`
//! ending without warning · `freezes` logs that nobody reads and disks that stand still · `freshness` how old what an open shows may be · `stops` a daemon that is stopped for a while · `expired` empty pages before what is left · `remade` streams
//! that are made again · `clocks` a machine whose clock is wrong · `hostile_text` text that is none
//! · `large_answers` answers that are larger than the service's · `moto` the main job on another server.

// clippy.toml allows it in tests, but clippy takes only the functions marked as tests for such, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod ahead;
mod automount;
mod cache_folder;
mod clocks;
mod content;
mod damage;
mod expired;
mod folder;
mod follow;
mod freezes;
mod freshness;
mod hostile_text;
mod kills;
mod large_answers;
mod lifecycle;
mod moto;
mod offline;
mod permissions;
mod remade;
mod renditions;
mod restart;
mod settings;
mod sick_streams;
mod sizes;
mod stops;
mod tools;
mod users;
mod verify;
mod waiting;
mod warm;
#[allow(dead_code)]
mod world;
