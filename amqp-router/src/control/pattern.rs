//! Prefixes and patterns of addresses, most specific first.

use std::collections::{BTreeMap, HashSet};

/// Values filed under address patterns.
///
/// A pattern is a sequence of tokens separated by `.` or `/`; `*` stands for exactly one token and
/// `#` for any number of them, none included. The most specific pattern that matches wins: token by
/// token from the left, a literal beats `*`, and `*` beats `#`
/// (`reference/router/config-and-management.md`, notes on `address`).
#[derive(Debug)]
pub(crate) struct PatternTree<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    literals: BTreeMap<Box<str>, usize>,
    any_one: Option<usize>,
    any_number: Option<usize>,
    value: Option<T>,
}

impl<T> Default for PatternTree<T> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new()],
        }
    }
}

impl<T> PatternTree<T> {
    /// Files `value` under `pattern`; what stood there before is returned.
    pub(crate) fn insert(&mut self, pattern: &str, value: T) -> Option<T> {
        let mut at = ROOT;
        for token in normal_tokens(pattern) {
            at = self.child_or_new(at, token);
        }
        self.nodes[at].value.replace(value)
    }

    /// Takes the value of exactly this pattern away.
    pub(crate) fn remove(&mut self, pattern: &str) -> Option<T> {
        let mut at = ROOT;
        for token in normal_tokens(pattern) {
            at = self.nodes[at].child(token)?;
        }
        self.nodes[at].value.take()
    }

    /// The value of the most specific pattern that matches `address`.
    pub(crate) fn get(&self, address: &str) -> Option<&T> {
        let tokens: Vec<&str> = tokens(address).collect();
        let found = self.search(ROOT, &tokens, 0, &mut HashSet::new())?;
        self.nodes[found].value.as_ref()
    }

    /// Depth first, the most specific branch first. `dead` remembers what has failed before, which
    /// keeps patterns with several `#` from taking exponential time.
    fn search(
        &self,
        at: usize,
        tokens: &[&str],
        position: usize,
        dead: &mut HashSet<(usize, usize)>,
    ) -> Option<usize> {
        if !dead.insert((at, position)) {
            return None;
        }
        let node = &self.nodes[at];
        let Some(token) = tokens.get(position) else {
            if node.value.is_some() {
                return Some(at);
            }
            return self.search(node.any_number?, tokens, position, dead);
        };
        if let Some(&next) = node.literals.get(*token)
            && let Some(found) = self.search(next, tokens, position + 1, dead)
        {
            return Some(found);
        }
        if let Some(next) = node.any_one
            && let Some(found) = self.search(next, tokens, position + 1, dead)
        {
            return Some(found);
        }
        let next = node.any_number?;
        (position..=tokens.len()).find_map(|skip| self.search(next, tokens, skip, dead))
    }

    fn child_or_new(&mut self, at: usize, token: &str) -> usize {
        if let Some(child) = self.nodes[at].child(token) {
            return child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node::new());
        let node = &mut self.nodes[at];
        match token {
            "*" => node.any_one = Some(child),
            "#" => node.any_number = Some(child),
            literal => {
                node.literals.insert(literal.into(), child);
            }
        }
        child
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        Self {
            literals: BTreeMap::new(),
            any_one: None,
            any_number: None,
            value: None,
        }
    }

    fn child(&self, token: &str) -> Option<usize> {
        match token {
            "*" => self.any_one,
            "#" => self.any_number,
            literal => self.literals.get(literal).copied(),
        }
    }
}

/// The pattern that means "`prefix` and everything below it".
pub(crate) fn prefix_pattern(prefix: &str) -> String {
    let prefix = prefix.trim_end_matches(['.', '/']);
    if prefix == "#" || prefix.ends_with("/#") || prefix.ends_with(".#") {
        return prefix.to_owned();
    }
    if prefix.is_empty() {
        "#".into()
    } else {
        format!("{prefix}/#")
    }
}

/// A pattern as it is compared with others: those that are written in other ways and match the same
/// are equal.
pub(crate) fn normal(pattern: &str) -> String {
    normal_tokens(pattern).join("/")
}

/// Of wildcards in a row every `*` comes first, and one `#` says what several do.
fn normal_tokens(pattern: &str) -> Vec<&str> {
    let mut normal = Vec::new();
    let mut any_number = false;
    for token in tokens(pattern) {
        match token {
            "#" => any_number = true,
            "*" => normal.push(token),
            literal => {
                normal.extend(std::mem::take(&mut any_number).then_some("#"));
                normal.push(literal);
            }
        }
    }
    normal.extend(any_number.then_some("#"));
    normal
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(['.', '/']).filter(|token| !token.is_empty())
}

const ROOT: usize = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(patterns: &[&'static str]) -> PatternTree<&'static str> {
        let mut tree = PatternTree::default();
        for pattern in patterns {
            tree.insert(pattern, *pattern);
        }
        tree
    }

    #[test]
    fn a_literal_beats_a_star_and_a_star_beats_a_hash() {
        let tree = tree(&["a/b/c", "a/*/c", "a/#", "#"]);
        assert_eq!(tree.get("a/b/c"), Some(&"a/b/c"));
        assert_eq!(tree.get("a/x/c"), Some(&"a/*/c"));
        assert_eq!(tree.get("a/x/d"), Some(&"a/#"));
        assert_eq!(tree.get("z"), Some(&"#"));
    }

    #[test]
    fn patterns_that_match_the_same_are_one() {
        for (pattern, expected) in [
            ("a.b", "a/b"),
            ("/a//b/", "a/b"),
            ("#.#.0.0", "#/0/0"),
            ("a/#/*", "a/*/#"),
            ("#/*/#/*/b/#/#", "*/*/#/b/#"),
            ("", ""),
        ] {
            assert_eq!(normal(pattern), expected);
        }
        let mut tree = tree(&["#/*", "#/a"]);
        assert_eq!(tree.get("b/a"), Some(&"#/*"), "as */# it is more specific");
        assert_eq!(tree.insert("*/#", "*/#"), Some("#/*"));
        assert_eq!(tree.remove("#/*/#"), Some("*/#"));
    }

    #[test]
    fn dots_and_slashes_separate_alike() {
        assert_eq!(tree(&["a.*"]).get("a/x"), Some(&"a.*"));
        assert_eq!(tree(&["a/b"]).get("a.b"), Some(&"a/b"));
    }

    #[test]
    fn a_hash_stands_for_none_one_or_many_tokens() {
        let tree = tree(&["a/#/z"]);
        for address in ["a/z", "a/b/z", "a/b/c/d/z"] {
            assert_eq!(tree.get(address), Some(&"a/#/z"), "{address}");
        }
        assert_eq!(tree.get("a/b"), None);
    }

    #[test]
    fn a_prefix_covers_itself_and_what_is_below() {
        let tree: PatternTree<u8> = {
            let mut tree = PatternTree::default();
            tree.insert(&prefix_pattern("news."), 1);
            tree
        };
        assert_eq!(tree.get("news"), Some(&1));
        assert_eq!(tree.get("news/today"), Some(&1));
        assert_eq!(tree.get("newspaper"), None);
    }

    #[test]
    fn a_removed_pattern_no_longer_matches() {
        let mut tree = tree(&["a/#", "a/b"]);
        assert_eq!(tree.remove("a/b"), Some("a/b"));
        assert_eq!(tree.get("a/b"), Some(&"a/#"));
        assert_eq!(tree.remove("a/b"), None);
    }

    #[test]
    fn many_hashes_stay_cheap() {
        let tree = tree(&["#/a/#/a/#/a/#/a/#/a/#/a/#/a/#/b"]);
        let address = vec!["a"; 600].join("/");
        assert_eq!(tree.get(&address), None);
    }
}
