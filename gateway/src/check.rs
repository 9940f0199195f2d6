//! What `adit-gateway check` says about a good file: what the gateway would be, and a table of who may what.

use std::io::{self, Write};

use gateway::{
    cluster,
    config::Config,
    policy::{self, Allow},
};

/// Writes it, warnings first.
pub(crate) fn report(config: &Config, out: &mut impl Write) -> io::Result<()> {
    let provider = cluster::provider(config);
    for warning in provider.warnings().into_iter().chain(policy::warnings(config)) {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(out, "{} is good", config.path.display())?;
    writeln!(out, "  listen   {} (UDP and TCP)", config.listen)?;
    writeln!(out, "  domain   {}", config.cluster.domain)?;
    writeln!(out, "  routes   {}", list(&config.cluster.routes, "none"))?;
    writeln!(out, "  targets  {}", config.targets.len())?;
    for target in provider.targets() {
        let replicas = provider.replicas(target);
        let there = replicas.there.iter().map(|replica| replica.name.clone());
        let missing = replicas.missing.iter().map(|missing| format!("{} (not there)", missing.name));
        writeln!(out, "    {}: {}", target.name, list(&there.chain(missing).collect::<Vec<_>>(), "no replica"))?;
    }
    let audit = config.audit.as_ref().map_or_else(|| "in the log".to_owned(), |path| path.display().to_string());
    writeln!(out, "  audit    {audit}")?;
    if config.allows.is_empty() {
        return writeln!(out, "  allow    no [[allow]]: every identity reaches every route and mirrors nothing");
    }
    writeln!(out, "  allow    what all lines that match an identity say together; others get no session")?;
    table(&config.allows, out)
}

fn table(allows: &[Allow], out: &mut impl Write) -> io::Result<()> {
    let head = ["name", "may reach", "may mirror"].map(str::to_owned);
    let row = |allow: &Allow| [allow.name.to_string(), list(&allow.reach, "nothing"), list(&allow.mirror, "nothing")];
    let rows: Vec<[String; 3]> = [head].into_iter().chain(allows.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    for [name, reach, mirror] in &rows {
        writeln!(out, "    {name:first$}  {reach:second$}  {mirror}")?;
    }
    Ok(())
}

fn list<T: ToString>(items: &[T], nothing: &str) -> String {
    if items.is_empty() {
        return nothing.to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_what_is_a_table() {
        let text = |allows: &str| {
            let text = format!(
                "listen = \"0.0.0.0:1\"\nstate_dir = \"/s\"\n[cluster]\nprovider = \"linux\"\ndomain = \"c\"\ndns = \"10.0.0.1\"\nroutes = [\"10.96.0.0/16\"]\n{allows}"
            );
            let mut out = Vec::new();
            report(&Config::parse(&text, "gateway.toml".as_ref()).unwrap(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let target =
            text("[[target]]\nname = \"shop/deploy/web\"\nnetns = [\"/proc/self/ns/net\", \"/nonexistent/web-2\"]\n");
        assert!(target.contains("  targets  1\n    shop/deploy/web: net, web-2 (not there)\n"), "{target}");
        assert!(
            target.starts_with("warning: target shop/deploy/web: /nonexistent/web-2 does not exist: make it"),
            "{target}"
        );
        let plain = text("");
        assert!(plain.starts_with("gateway.toml is good\n"), "{plain}");
        assert!(plain.contains("every identity reaches every route and mirrors nothing\n"), "{plain}");
        let table = text(
            "[[allow]]\nname = \"alice\"\nreach = [\"10.96.0.0/16\", \"10.96.0.20:443/tcp\"]\n[[allow]]\nname = \"ci-*\"\nmirror = [\"*\"]",
        );
        assert!(
            table.ends_with(
                "    name   may reach                         may mirror\n    alice  10.96.0.0/16, 10.96.0.20:443/tcp  nothing\n    ci-*   nothing                           *\n"
            ),
            "{table}"
        );
    }
}
