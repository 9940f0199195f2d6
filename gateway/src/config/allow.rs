//! `[[allow]]`: from the form to what holds. Before: [`super::validate`]; after: [`crate::policy`].

use std::str::FromStr;

use toml::Spanned;

use super::{
    raw,
    validate::{Checked, Problem, at},
};
use crate::policy::{Allow, NamePattern};

pub(super) fn allows(list: &[Spanned<raw::Allow>]) -> Checked<Vec<Allow>> {
    list.iter().map(|allow| self::allow(allow.get_ref())).collect()
}

fn allow(raw: &raw::Allow) -> Checked<Allow> {
    let name = raw.name.get_ref();
    let name = NamePattern::parse(name).ok_or_else(|| at(&raw.name, Problem::IdentityPattern(name.clone())))?;
    if raw.reach.is_none() && raw.mirror.is_none() {
        return Err(at(&raw.name, Problem::AllowsNothing));
    }
    Ok(Allow { name, reach: patterns(&raw.reach)?, mirror: patterns(&raw.mirror)? })
}

fn patterns<T>(list: &Option<Vec<Spanned<String>>>) -> Checked<Vec<T>>
where
    T: FromStr,
    Problem: From<T::Err>,
{
    let pattern = |text: &Spanned<String>| text.get_ref().parse().map_err(|error| at(text, Problem::from(error)));
    list.iter().flatten().map(pattern).collect()
}
