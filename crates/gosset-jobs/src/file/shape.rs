//! Tables are tables: the reader would take a list for one, field by field in their order, and leave out what is left.

use toml::{Table, Value};

/// Where a job file has tables; `*` is any name.
const TABLES: &[&str] = &[
    "job",
    "engine",
    "sources.*",
    "assignments",
    "segments.*",
    "metrics.*",
    "metrics.*.covariate",
    "estimators.*",
    "audits.*",
    "experiments.*",
    "experiments.*.exposure",
];

/// Refuses a list where a table belongs.
pub(super) fn check(text: &str) -> Result<(), String> {
    let file: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let file = Value::Table(file);
    TABLES.iter().try_for_each(|path| {
        let keys: Vec<&str> = path.split('.').collect();
        (1..=keys.len()).try_for_each(|depth| tables_at(&file, &keys[..depth], ""))
    })
}

fn tables_at(value: &Value, keys: &[&str], place: &str) -> Result<(), String> {
    let Value::Table(table) = value else {
        let found = if value.is_array() { "a list" } else { value.type_str() };
        return Err(format!("expected '{place}' to be a table, found {found}"));
    };
    let Some((key, rest)) = keys.split_first() else { return Ok(()) };
    let below = table.iter().filter(|(name, _)| *key == "*" || name == key);
    below.into_iter().try_for_each(|(name, value)| {
        let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        tables_at(value, rest, &place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_no_table() {
        assert_eq!(check("[metrics.m]\ncovariate = { column = [\"a\"] }"), Ok(()));
        let told = |text: &str| check(text).expect_err("a list");
        assert_eq!(
            told("[metrics.m]\ncovariate = [\"a\", \"b\"]"),
            "expected 'metrics.m.covariate' to be a table, found a list"
        );
        assert_eq!(
            told("[segments]\nc = [\"c\"]"),
            "expected 'segments.c' to be a table, found a list"
        );
        assert_eq!(told("job = [\"name\"]"), "expected 'job' to be a table, found a list");
    }
}
