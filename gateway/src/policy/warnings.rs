//! What someone should look at in the `[[allow]]`, although it can be used. Pure. Used when a configuration is checked, started with or
//! read again.

use crate::config::Config;

/// Each in a sentence with its remedy.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.allows.is_empty() && config.allows.iter().all(|allow| allow.reach.is_empty()) {
        warnings
            .push("no [[allow]] has reach, so nobody reaches anything: add reach = [\"*\"] for every route".to_owned());
    }
    for (at, allow) in config.allows.iter().enumerate() {
        let entry = format!("allow[{}], for {}", at + 1, allow.name);
        for pattern in &allow.reach {
            if !config.cluster.routes.iter().any(|route| pattern.overlaps(route)) {
                warnings.push(format!(
                    "{entry}: no route covers {pattern}, so it opens nothing: add a route, or correct it"
                ));
            }
        }
        for pattern in &allow.mirror {
            if !config.targets.iter().any(|target| pattern.names(&target.name)) {
                warnings.push(format!("{entry}: there is no target {pattern}: add a [[target]], or correct it"));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(allows: &str) -> Vec<String> {
        let text = format!(
            r#"
            listen = "0.0.0.0:1"
            state_dir = "/s"
            [cluster]
            provider = "linux"
            domain = "c"
            dns = "10.0.0.1"
            routes = ["10.96.0.0/16"]
            [[target]]
            name = "shop/deploy/web"
            netns = ["/run/netns/web"]
            {allows}
            "#
        );
        warnings(&Config::parse(&text, "t".as_ref()).unwrap())
    }

    #[test]
    fn what_opens_nothing_is_warned_of_and_what_opens_something_is_not() {
        assert_eq!(warned(""), Vec::<String>::new());
        let good =
            "[[allow]]\nname = \"a\"\nreach = [\"*:443\", \"10.0.0.0/8\"]\nmirror = [\"shop/*\", \"*/deploy/web:80\"]";
        assert_eq!(warned(good), Vec::<String>::new());
        assert_eq!(
            warned("[[allow]]\nname = \"b\"\nreach = []\n[[allow]]\nname = \"ci-*\"\nmirror = [\"bank/*:80\"]"),
            [
                "no [[allow]] has reach, so nobody reaches anything: add reach = [\"*\"] for every route",
                "allow[2], for ci-*: there is no target bank/*:80: add a [[target]], or correct it",
            ]
        );
        assert_eq!(
            warned("[[allow]]\nname = \"a\"\nreach = [\"10.97.0.1:80\"]"),
            ["allow[1], for a: no route covers 10.97.0.1:80, so it opens nothing: add a route, or correct it"]
        );
    }
}
