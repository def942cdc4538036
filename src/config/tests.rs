use super::*;
use crate::fetch::Since;
use crate::source::Call;
use std::collections::HashMap;
use std::ffi::OsString;

fn cli(args: &[&str]) -> Cli {
    Cli::parse_line(std::iter::once("cwlogs-mount").chain(args.iter().copied()).map(OsString::from)).unwrap()
}

fn env(vars: &[(&str, &str)], config_home: Option<&Path>) -> Env {
    let vars: HashMap<String, String> = vars.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Env {
        var: Box::new(move |name| vars.get(name).cloned()),
        home: Some("/home/ada".into()),
        start: None,
        config_home: config_home.map(Path::to_owned),
        cache_home: Some("/home/ada/.cache".into()),
        ids: (1000, 100),
    }
}

fn with_file(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("cwlogs-mount")).unwrap();
    std::fs::write(dir.path().join("cwlogs-mount/config.toml"), text).unwrap();
    dir
}

#[test]
fn defaults_are_the_contract() {
    let config = Config::resolve(&cli(&["/mnt"]), &env(&[], None)).unwrap();
    assert_eq!(config.listing_ttl, Duration::from_secs(10));
    assert_eq!(config.poll_interval, Duration::from_secs(1));
    assert_eq!(config.late_window, Duration::from_secs(300));
    assert_eq!(config.settle_after, Duration::from_secs(900));
    assert_eq!((config.uid, config.gid, config.dir_mode, config.file_mode), (1000, 100, 0o700, 0o600));
    // The kernel answers from what it keeps, and these bits alone decide to which user.
    let modes =
        |args: &[&str]| Config::resolve(&cli(args), &env(&[], None)).map(|c| (c.dir_mode, c.file_mode)).unwrap();
    assert_eq!(modes(&["/mnt", "--allow-root"]), (0o700, 0o600));
    assert_eq!(modes(&["/mnt", "--allow-other"]), (0o755, 0o644));
    assert_eq!(modes(&["/mnt", "--allow-root", "--file-mode", "640"]), (0o700, 0o640));
    assert_eq!(config.mountpoint.as_deref(), Some(Path::new("/mnt")));
}

#[test]
fn flags_win_over_the_environment_and_it_over_the_file() {
    let dir = with_file(
        "profile = 'f'\nregion = 'f'\nendpoint-url = 'f'\nlog-group-prefix = 'f'\npoll-interval = '2s'\n\
         mountpoint = '~/f'\nverbose = 1\n[rate]\nget-log-events = 3\n",
    );
    let env = env(&[("AWS_PROFILE", "e"), ("AWS_REGION", "e"), ("AWS_LOGS_DIRECTORY", "/e")], Some(dir.path()));
    let config = Config::resolve(&cli(&["--profile", "c"]), &env).unwrap();
    assert_eq!(config.aws.profile.as_deref(), Some("c"));
    assert_eq!(config.aws.region.as_deref(), Some("e"));
    assert_eq!(config.aws.endpoint_url.as_deref(), Some("f"));
    assert_eq!(config.selection.group_prefixes, ["f"]);
    assert_eq!(config.poll_interval, Duration::from_secs(2));
    assert_eq!(config.mountpoint.as_deref(), Some(Path::new("/e")));
    assert_eq!(config.verbosity, 1);
    assert_eq!(config.fetch_settings(Quotas::of_region("us-east-1")).quotas.of(Call::GetLogEvents), 3.0);
    let config = Config::resolve(&cli(&["-q", "--rate", "get-log-events=4"]), &env).unwrap();
    assert_eq!(config.verbosity, -1);
    assert_eq!(config.rates, [(Call::GetLogEvents, 4.0)]);
}

#[test]
fn the_older_names_of_the_environment_are_taken() {
    let vars = [
        ("LOG_GROUP_NAME_PREFIX", "/aws"),
        ("LOG_STREAMS_FILTER", r#"["a,b","c"]"#),
        ("AWS_ACCESS_KEY", "k"),
        ("AWS_SECRET", "s"),
    ];
    let config = Config::resolve(&cli(&["/mnt"]), &env(&vars, None)).unwrap();
    assert_eq!(config.selection.group_prefixes, ["/aws"]);
    assert_eq!(config.selection.streams, ["a,b", "c"]);
    assert_eq!(config.aws.access_key_fallback, Some(("k".into(), "s".into())));
    assert!(!format!("{config:?}").contains("\"s\""));
    let both = [&vars[..], &[("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "y")]].concat();
    assert_eq!(Config::resolve(&cli(&["/mnt"]), &env(&both, None)).unwrap().aws.access_key_fallback, None);
}

#[test]
fn what_is_wrong_is_named() {
    let dir = with_file("settle-after = 'soon'\n");
    let error = Config::resolve(&cli(&["/mnt"]), &env(&[], Some(dir.path()))).unwrap_err();
    assert!(
        matches!(&error, ConfigError::Invalid(text) if text.contains("settle-after") && text.contains("config.toml"))
    );
    let error = Config::resolve(&cli(&["--config", "/nonexistent.toml", "/mnt"]), &env(&[], None)).unwrap_err();
    assert!(matches!(&error, ConfigError::Invalid(text) if text.contains("--config")));
    let error = Config::resolve(&cli(&["--log-group", "[", "/mnt"]), &env(&[], None)).unwrap_err();
    assert!(matches!(error, ConfigError::Usage(_)));
    let config = Config::resolve(&cli(&[]), &env(&[], None)).unwrap();
    assert!(matches!(config.required_mountpoint(), Err(ConfigError::Usage(_))));
}

#[test]
fn each_profile_region_and_endpoint_has_a_cache_of_its_own() {
    let folder = |args: &[&str], region: &str| {
        Config::resolve(&cli(args), &env(&[], None)).unwrap().cache_folder(region).unwrap()
    };
    let plain = folder(&["/mnt"], "eu-west-1");
    assert!(plain.starts_with("/home/ada/.cache/cwlogs-mount"));
    assert!(plain.file_name().unwrap().to_str().unwrap().starts_with("default-eu-west-1-"));
    let others = [
        folder(&["/mnt"], "eu-west-2"),
        folder(&["/mnt", "--profile", "a/b"], "eu-west-1"),
        folder(&["/mnt", "--profile", "a_b"], "eu-west-1"),
        folder(&["/mnt", "--endpoint-url", "http://localhost:1"], "eu-west-1"),
        folder(&["/mnt", "--demo"], "demo"),
        plain,
    ];
    let distinct: std::collections::HashSet<_> = others.iter().collect();
    assert_eq!(distinct.len(), others.len());
    assert!(others.iter().all(|path| path.parent().unwrap().ends_with("cwlogs-mount")));
    assert_eq!(folder(&["/mnt", "--cache-dir", "/c"], "x"), Path::new("/c"));
}

#[test]
fn a_reload_tells_what_it_can_take_over() {
    let old = Config::resolve(&cli(&["/mnt"]), &env(&[], None)).unwrap();
    let dir = with_file("since = '1h'\nnames = 'exact'\nuid = 7\n");
    let new = Config::resolve(&cli(&["/mnt"]), &env(&[], Some(dir.path()))).unwrap();
    assert_eq!(new.selection.since, Some(Since::Ago(Duration::from_secs(3600))));
    assert!(old.fetches_differently(&new));
    assert!(!old.fetches_differently(&old.clone()));
    assert_eq!(old.fixed_differences(&new), ["names", "uid"]);
    let mut kept = new.clone();
    kept.keep_fixed(&old);
    assert!(old.fixed_differences(&kept).is_empty());
    assert!(!kept.fetches_differently(&new));
}

#[test]
fn the_default_profile_and_region_stand_behind_the_others() {
    let of = |vars: &[(&str, &str)]| Config::resolve(&cli(&["/mnt"]), &env(vars, None)).unwrap().aws;
    let default = ("AWS_DEFAULT_PROFILE", "old");
    assert_eq!(of(&[default]).profile.as_deref(), Some("old"));
    assert_eq!(of(&[default, ("AWS_PROFILE", "new")]).profile.as_deref(), Some("new"));
    let default = ("AWS_DEFAULT_REGION", "eu-west-1");
    assert_eq!(of(&[default]).region.as_deref(), Some("eu-west-1"));
    assert_eq!(of(&[default, ("AWS_REGION", "eu-west-2")]).region.as_deref(), Some("eu-west-2"));
}
