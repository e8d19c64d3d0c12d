//! A container's environment variables, as the kubelet would set them.
//!
//! Pure: a function provides Secrets and ConfigMaps. Skips values that need the running pod (`fieldRef`,
//! `resourceFieldRef`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Upper bound on the bytes of all variables of a container together, names included. A process gets 2 MiB at most, with its
/// arguments, and a reference to a variable before it lets a short pod template ask for any number of bytes.
const BYTES_MAX: usize = 1 << 20;

/// What each variable counts for beside its name and its value, also if it has none, so that a container has no more than
/// 32,768.
const VARIABLE_BYTES: usize = 32;

/// Upper bound on the Secrets and ConfigMaps of a container, each of which is a request to the API server.
const OBJECTS_MAX: usize = 100;

/// The decoded data of a Secret or ConfigMap.
pub type Data = BTreeMap<String, Vec<u8>>;

/// The fields of a pod template's container that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub env_from: Vec<EnvFrom>,
    pub env: Vec<EnvVar>,
}

impl Container {
    /// Returns about how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let from = self.env_from.iter().map(|from| size_of::<EnvFrom>() + from.prefix.len() + from.name.len());
        let variables = self.env.iter().map(|variable| {
            let value = match &variable.value {
                EnvValue::Literal(text) => text.len(),
                EnvValue::Key { name, key, .. } => name.len() + key.len(),
                EnvValue::Unknown => 0,
            };
            size_of::<EnvVar>() + variable.name.len() + value
        });
        size_of::<Self>() + self.name.len() + from.sum::<usize>() + variables.sum::<usize>()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFrom {
    pub prefix: String,
    pub kind: DataKind,
    pub name: String,
    pub optional: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    pub name: String,
    pub value: EnvValue,
}

impl EnvVar {
    /// Returns the Secret or ConfigMap that has its value.
    fn object(&self) -> Option<(DataKind, &str)> {
        match &self.value {
            EnvValue::Key { kind, name, .. } => Some((*kind, name)),
            EnvValue::Literal(_) | EnvValue::Unknown => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    /// May contain `$(NAME)` references.
    Literal(String),
    Key {
        kind: DataKind,
        name: String,
        key: String,
        optional: bool,
    },
    /// `fieldRef`, or another value that is known only in the pod.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataKind {
    Secret,
    ConfigMap,
}

impl DataKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// Returns all variables. `look_up` returns `None` for a Secret or ConfigMap that does not exist.
///
/// # Errors
/// A text that names a required reference which is missing, or why `look_up` failed, or that there are too many bytes or
/// too many Secrets and ConfigMaps.
pub fn variables(
    container: &Container,
    mut look_up: impl FnMut(DataKind, &str) -> Result<Option<Arc<Data>>, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut named: BTreeSet<(DataKind, &str)> =
        container.env_from.iter().map(|from| (from.kind, from.name.as_str())).collect();
    named.extend(container.env.iter().filter_map(EnvVar::object));
    if named.len() > OBJECTS_MAX {
        return Err(format!("its environment variables come from more than {OBJECTS_MAX} Secrets and ConfigMaps"));
    }
    let mut variables = Variables { values: BTreeMap::new(), left: BYTES_MAX };
    for from in &container.env_from {
        variables.take(VARIABLE_BYTES)?;
        match look_up(from.kind, &from.name)? {
            Some(data) => {
                for (key, value) in data.iter() {
                    variables.take(VARIABLE_BYTES)?;
                    variables.set(format!("{}{key}", from.prefix), String::from_utf8_lossy(value).into_owned())?;
                }
            }
            None if from.optional => {}
            None => return Err(format!("envFrom: {} {} does not exist", from.kind.name(), from.name)),
        }
    }
    let mut found = variables.of_keys(&container.env, look_up)?;
    for (at, variable) in container.env.iter().enumerate() {
        variables.take(VARIABLE_BYTES)?;
        match &variable.value {
            EnvValue::Literal(text) => {
                let value = variables.expand(text)?;
                variables.set(variable.name.clone(), value)?;
            }
            EnvValue::Unknown => {}
            EnvValue::Key { .. } => {
                if let Some(value) = found.remove(&at) {
                    // Its bytes are taken already.
                    variables.values.insert(variable.name.clone(), value);
                }
            }
        }
    }
    Ok(variables.values)
}

/// The variables that are set so far.
struct Variables {
    values: BTreeMap<String, String>,
    /// Bytes that others may have.
    left: usize,
}

impl Variables {
    fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.left = self.left.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    }

    fn set(&mut self, name: String, value: String) -> Result<(), String> {
        self.take(name.len() + value.len())?;
        self.values.insert(name, value);
        Ok(())
    }

    /// Returns the values of keys by the places of their variables, and takes their bytes. Each Secret and ConfigMap is
    /// looked up once, and let go before the next: all together have too many bytes to be held, or to be kept by a cache.
    fn of_keys(
        &mut self,
        env: &[EnvVar],
        mut look_up: impl FnMut(DataKind, &str) -> Result<Option<Arc<Data>>, String>,
    ) -> Result<BTreeMap<usize, String>, String> {
        let mut places: BTreeMap<(DataKind, &str), Vec<usize>> = BTreeMap::new();
        for (at, variable) in env.iter().enumerate() {
            if let Some(object) = variable.object() {
                places.entry(object).or_default().push(at);
            }
        }
        let mut found = BTreeMap::new();
        for ((kind, name), places) in places {
            let data = look_up(kind, name)?;
            for at in places {
                let EnvVar { name: variable, value: EnvValue::Key { key, optional, .. } } = &env[at] else { continue };
                match data.as_ref().map(|data| data.get(key)) {
                    Some(Some(value)) => {
                        let value = String::from_utf8_lossy(value).into_owned();
                        self.take(variable.len() + value.len())?;
                        found.insert(at, value);
                    }
                    _ if *optional => {}
                    Some(None) => return Err(format!("variable {variable}: {} {name} has no key {key}", kind.name())),
                    None => return Err(format!("variable {variable}: {} {name} does not exist", kind.name())),
                }
            }
        }
        Ok(found)
    }

    /// Replaces `$(NAME)` by the variable's value, if it exists, and `$$` by `$`.
    fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        // Without one that follows, a reference has no end, and looking for it again and again would take minutes.
        let last = text.rfind(')').unwrap_or_default();
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let may_end = text.len() - after.len() < last;
            let name = after.strip_prefix('(').filter(|_| may_end).and_then(|inner| inner.split_once(')'));
            match name {
                Some((name, after)) => {
                    match self.values.get(name) {
                        Some(value) => out.push_str(value),
                        None => out.push_str(&rest[at..at + name.len() + 3]),
                    }
                    rest = after;
                }
                None => {
                    out.push('$');
                    rest = after;
                }
            }
            // Each value is within the bound, so that no more than twice as much is here at once.
            if out.len() > self.left {
                return Err(too_large());
            }
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn too_large() -> String {
    format!("its environment variables have more than {} KiB, with {VARIABLE_BYTES} bytes for each", BYTES_MAX >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(kind: DataKind, name: &str) -> Result<Option<Arc<Data>>, String> {
        Ok(match (kind, name) {
            (DataKind::Secret, "s") => Some(Arc::new(Data::from([("TOKEN".into(), b"t".to_vec())]))),
            (DataKind::ConfigMap, "c") => {
                Some(Arc::new(Data::from([("A".into(), b"1".to_vec()), ("B".into(), b"2".to_vec())])))
            }
            _ => None,
        })
    }

    fn from(kind: DataKind, name: &str, prefix: &str, optional: bool) -> EnvFrom {
        EnvFrom { prefix: prefix.into(), kind, name: name.into(), optional }
    }

    fn key(variable: &str, kind: DataKind, name: &str, key: &str, optional: bool) -> EnvVar {
        EnvVar { name: variable.into(), value: EnvValue::Key { kind, name: name.into(), key: key.into(), optional } }
    }

    fn literal(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.into(), value: EnvValue::Literal(value.into()) }
    }

    #[test]
    fn sources_in_their_order() {
        let container = Container {
            name: "main".into(),
            env_from: vec![from(DataKind::ConfigMap, "c", "P_", false), from(DataKind::Secret, "none", "", true)],
            env: vec![
                literal("X", "a$(P_A)-$(LATER)"),
                literal("LATER", "l"),
                literal("P_B", "over"),
                key("T", DataKind::Secret, "s", "TOKEN", false),
                key("GONE", DataKind::Secret, "s", "none", true),
                key("GONE2", DataKind::ConfigMap, "none", "k", true),
                EnvVar { name: "IP".into(), value: EnvValue::Unknown },
            ],
        };
        let found = variables(&container, data).unwrap();
        let expected = [("LATER", "l"), ("P_A", "1"), ("P_B", "over"), ("T", "t"), ("X", "a1-$(LATER)")];
        assert_eq!(found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let rows = [
            (
                Container { env_from: vec![from(DataKind::Secret, "none", "", false)], ..Container::default() },
                "Secret none does not exist",
            ),
            (
                Container { env: vec![key("T", DataKind::Secret, "s", "k", false)], ..Container::default() },
                "Secret s has no key k",
            ),
            (
                Container { env: vec![key("T", DataKind::ConfigMap, "n", "k", false)], ..Container::default() },
                "ConfigMap n does not exist",
            ),
        ];
        for (container, words) in rows {
            assert!(variables(&container, data).unwrap_err().contains(words));
        }
    }

    /// Regression: each variable that names the one before it twice had twice its length, up to all of the memory.
    #[test]
    fn all_variables_together_are_bounded() {
        let mut doubling = Container { env: vec![literal("E0", &"x".repeat(1 << 10))], ..Container::default() };
        for at in 1..14 {
            let before = at - 1;
            doubling.env.push(literal(&format!("E{at}"), &format!("$(E{before})$(E{before})")));
        }
        let found = |container: &Container| {
            let value = vec![b'x'; 300 << 10];
            let found = variables(container, |_, _| Ok(Some(Arc::new(Data::from([("K".into(), value.clone())])))));
            found.map(|found| found.values().map(String::len).max().unwrap_or_default())
        };
        assert_eq!(
            found(&doubling).unwrap_err(),
            "its environment variables have more than 1024 KiB, with 32 bytes for each"
        );
        doubling.env.truncate(9);
        assert_eq!(found(&doubling), Ok(256 << 10));

        let three = ["a", "b", "c"].map(|name| from(DataKind::ConfigMap, name, name, false));
        let mut large = Container { env_from: three.to_vec(), ..Container::default() };
        assert_eq!(found(&large), Ok(300 << 10));
        large.env_from.push(from(DataKind::ConfigMap, "d", "d", false));
        assert_eq!(
            found(&large).unwrap_err(),
            "its environment variables have more than 1024 KiB, with 32 bytes for each"
        );
        large.env_from.pop();
        large.env.push(key("D", DataKind::Secret, "s", "K", false));
        assert_eq!(
            found(&large).unwrap_err(),
            "its environment variables have more than 1024 KiB, with 32 bytes for each"
        );
    }

    /// Regression: each of any number of variables had its Secret or ConfigMap looked up and copied, be the key there or not.
    #[test]
    fn each_object_is_looked_up_once_and_not_too_many() {
        let looked_up = |env: Vec<EnvVar>, env_from: Vec<EnvFrom>| {
            let mut asked = 0;
            let container = Container { name: "main".into(), env_from, env };
            let found = variables(&container, |kind, name| {
                asked += 1;
                data(kind, name)
            });
            (found.map(|found| found.len()), asked)
        };
        let names = ["s", "none"];
        let keys =
            |count: usize| (0..count).map(|n| key(&n.to_string(), DataKind::Secret, names[n % 2], "TOKEN", true));
        assert_eq!(looked_up(keys(1_000).collect(), Vec::new()), (Ok(500), 2));

        let objects =
            |count: usize| (0..count).map(|n| key("V", DataKind::Secret, &n.to_string(), "k", true)).collect();
        assert_eq!(looked_up(objects(100), Vec::new()), (Ok(0), 100));
        let too_many = "its environment variables come from more than 100 Secrets and ConfigMaps";
        assert_eq!(looked_up(objects(101), Vec::new()), (Err(too_many.to_owned()), 0));
        // One of that name is another object.
        let from = vec![from(DataKind::ConfigMap, "1", "", true)];
        assert_eq!(looked_up(objects(100), from), (Err(too_many.to_owned()), 0));
    }

    /// Regression: variables without a value took nothing of what is allowed, so that there could be any number.
    #[test]
    fn variables_without_a_value_are_bounded() {
        let unknown = EnvVar { name: "IP".into(), value: EnvValue::Unknown };
        let missing = key("GONE", DataKind::Secret, "none", "k", true);
        for variable in [unknown, missing] {
            let ended = |count| {
                let container = Container { env: vec![variable.clone(); count], ..Container::default() };
                variables(&container, data).map(|found| found.len())
            };
            assert_eq!(ended(30_000), Ok(0));
            assert!(ended(38_000).unwrap_err().contains("more than 1024 KiB"));
        }
        let empty = vec![from(DataKind::Secret, "none", "", true); 38_000];
        let container = Container { env_from: empty, ..Container::default() };
        assert!(variables(&container, data).unwrap_err().contains("more than 1024 KiB"));
    }

    /// Regression: at each of half a million beginnings of a reference its end was looked for in all that follows.
    #[test]
    fn references_without_an_end_are_read_once() {
        let text = "$(".repeat(BYTES_MAX / 2);
        let variables = Variables { values: BTreeMap::new(), left: BYTES_MAX };
        assert_eq!(variables.expand(&text).as_deref(), Ok(text.as_str()));
    }

    #[test]
    fn references() {
        let values = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("D".to_owned(), "$(A)".to_owned())]);
        let known = Variables { values, left: BYTES_MAX };
        let rows = [
            ("$(A)$(A)", "11"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$(D)", "$(A)"),
            ("$", "$"),
            ("a$", "a$"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("ü$(A)ü", "ü1ü"),
            ("$()", "$()"),
        ];
        for (text, expected) in rows {
            assert_eq!(known.expand(text).as_deref(), Ok(expected), "{text}");
        }
    }
}
