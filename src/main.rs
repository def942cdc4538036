//! `cwlogs-mount`: parse, choose, exit.

use cwlogs_mount::cli::{self, Cli};
use cwlogs_mount::config::{Config, ConfigError, Env};
use cwlogs_mount::{daemon, mount};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Variables that name files, which the SDK reads whenever it needs them, and we leave the working directory.
const FILES: [&str; 2] = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];

fn main() -> ExitCode {
    settle_environment();
    let parsed = Cli::parse_line(std::env::args_os()).and_then(|mut cli| {
        cli.make_paths_absolute().map_err(|error| cli::usage(format!("the working directory is gone: {error}")))?;
        Ok(cli)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return say(&error),
    };
    // A broken settings file must not stand between a person and an unmount.
    if let (true, Some(mountpoint)) = (cli.unmount, &cli.mountpoint) {
        return unmount(mountpoint);
    }
    // Nor between a probe and its answer.
    if let (true, Some(mountpoint)) = (cli.live, &cli.mountpoint) {
        return live(&cli, mountpoint);
    }
    let env = Env::of_process();
    let config = match Config::resolve(&cli, &env) {
        Ok(config) => config,
        Err(error) => return refuse(error),
    };
    if cli.check && !cli.live {
        return check_setup(&config);
    }
    if let Some(globs) = cli.verify {
        return verify(&config, globs, cli.reread);
    }
    let mountpoint = match config.required_mountpoint() {
        Ok(path) => path.to_owned(),
        Err(error) => return refuse(error),
    };
    if cli.unmount {
        return unmount(&mountpoint);
    }
    if cli.live {
        return live(&cli, &mountpoint);
    }
    match daemon::run(cli, env, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            fail(failure.to_string());
            ExitCode::from(failure.status())
        }
    }
}

/// Makes the environment mean the same wherever the process goes: relative paths become absolute, and a home that only the user's passwd
/// entry tells (as under a service manager) is told to the SDK, too.
fn settle_environment() {
    let mut settled = Vec::new();
    for name in FILES {
        let named = std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The SDK itself knows `~`.
        if let Some(path) = named.filter(|path| path.is_relative() && !path.starts_with("~"))
            && let Ok(path) = std::path::absolute(path)
        {
            settled.push((name, path));
        }
    }
    if std::env::var_os("HOME").is_none_or(|home| home.is_empty())
        && let Some(home) = dirs::home_dir()
    {
        settled.push(("HOME", home));
    }
    for (name, path) in settled {
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var(name, path) };
    }
}

fn unmount(mountpoint: &Path) -> ExitCode {
    mount::unmount::unmount(mountpoint).map_or_else(|error| fail(error.to_string()), |()| ExitCode::SUCCESS)
}

fn live(cli: &Cli, mountpoint: &Path) -> ExitCode {
    let answered =
        if cli.live_child { daemon::ask(mountpoint, cli.fresh) } else { daemon::check_live(mountpoint, cli.fresh) };
    answered.map_or_else(|error| fail(error.to_string()), |()| ExitCode::SUCCESS)
}

fn check_setup(config: &Config) -> ExitCode {
    match daemon::check_setup(config) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error.to_string()),
    }
}

fn verify(config: &Config, globs: Vec<String>, reread: bool) -> ExitCode {
    match daemon::verify_cache(config, globs, reread) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error.to_string()),
    }
}

/// Help and version go to standard output with status 0, usage errors to standard error with 2.
fn say(message: &clap::Error) -> ExitCode {
    // A reader that is gone (`--help | head`) is no failure.
    let _ = message.print();
    ExitCode::from(message.exit_code() as u8)
}

fn refuse(error: ConfigError) -> ExitCode {
    match error {
        ConfigError::Usage(why) => say(&cli::usage(why)),
        ConfigError::Invalid(why) => fail(why),
    }
}

fn fail(why: String) -> ExitCode {
    eprintln!("cwlogs-mount: {why}");
    ExitCode::FAILURE
}
