//! Programs that are platforms: whose account it is, and what they are told.

use super::*;

/// Only the program knows what its platform calls the account.
#[test]
fn the_account_of_a_program_is_what_is_said_or_what_its_secrets_open() {
    let account = |name: &str, rest: &str| {
        let block = format!("[platform.{name}]\nkind = \"exec\"\ncommand = [\"{name}\"]\n{rest}");
        let config = parse(&format!("{block}[agent.echo]\n")).unwrap();
        let Ok(instance::Body::Platform { settings, .. }) = &config.instances[0].body else {
            panic!("{:?}", config.instances[0].body)
        };
        settings.account()
    };
    assert_ne!(account("a", ""), account("b", ""));
    assert_ne!(account("a", ""), account("a", "settings = { user = 1 }\n"));
    let secret = "secrets = { token_file = \"t\" }\n";
    assert_eq!(account("a", secret), account("b", secret));
    let of = |rest: &str| account("a", &format!("account = \"bot\"\n{rest}"));
    assert_eq!(of(secret), of(""));
    assert_ne!(of(""), account("a", ""));
}

#[test]
fn a_program_is_told_its_settings_as_json() {
    let text = "[platform.exec]\ncommand = [\"x\"]\n\
        settings = { a = [1, 2.5, true], b = { c = 1979-05-27 } }\n[agent.echo]\n";
    let config = parse(text).unwrap();
    let Ok(instance::Body::Platform { settings: PlatformSettings::Exec(settings), .. }) =
        &config.instances[0].body
    else {
        panic!()
    };
    assert_eq!(settings.settings, r#"{"a":[1,2.5,true],"b":{"c":"1979-05-27"}}"#);
}
