//! [`FieldSet`]: a set of paths, such as those that a manager owns, and its JSON, `fieldsV1`.
//!
//! A set that has a path need not have the paths above or below it. Elements are sorted and unique, and no branch is
//! without a member, so that equal sets have equal trees.

use serde_json::{Map, Value, json};

use super::path::{NoPathElement, PathElement};

/// A set of paths, as a tree of their elements.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FieldSet<'a> {
    nodes: Vec<(PathElement<'a>, Node<'a>)>,
}

/// One node of the tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node<'a> {
    /// Whether the path itself is in the set.
    pub(super) member: bool,
    /// The members below it.
    pub(super) below: FieldSet<'a>,
}

impl Node<'_> {
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    fn add(&mut self, other: Self) {
        self.member |= other.member;
        self.below.add(other.below);
    }
}

impl<'a> FieldSet<'a> {
    /// The set of these paths, which are field names joined by dots.
    pub(crate) fn of(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(path.split('.').map(|name| PathElement::Field(name.into())));
        }
        set
    }

    /// Reserves room for so many elements at the top.
    pub(super) fn reserve(&mut self, elements: usize) {
        self.nodes.reserve(elements);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds one path. An empty path adds nothing.
    pub(super) fn insert(&mut self, path: impl IntoIterator<Item = PathElement<'a>>) {
        let mut elements: Vec<_> = path.into_iter().collect();
        let Some(last) = elements.pop() else { return };
        let member = Node { member: true, below: Self::default() };
        let branch = elements.into_iter().rev().fold((last, member), |(element, node), above| {
            let mut below = Self::default();
            below.put(element, node);
            (above, Node { member: false, below })
        });
        self.put(branch.0, branch.1);
    }

    /// Adds a branch. It is cheapest if elements are added in their order.
    pub(super) fn put(&mut self, element: PathElement<'a>, node: Node<'a>) {
        if node.is_empty() {
            return;
        }
        if self.nodes.last().is_none_or(|(last, _)| *last < element) {
            self.nodes.push((element, node));
            return;
        }
        match self.nodes.binary_search_by(|(known, _)| known.cmp(&element)) {
            Ok(at) => self.nodes[at].1.add(node),
            Err(at) => self.nodes.insert(at, (element, node)),
        }
    }

    pub(super) fn get(&self, element: &PathElement<'_>) -> Option<&Node<'a>> {
        let at = self.nodes.binary_search_by(|(known, _)| known.cmp(element)).ok()?;
        Some(&self.nodes[at].1)
    }

    pub(super) fn has(&self, path: &[PathElement<'_>]) -> bool {
        let Some((last, above)) = path.split_last() else { return false };
        let parent = above.iter().try_fold(self, |set, element| Some(&set.get(element)?.below));
        parent.and_then(|set| set.get(last)).is_some_and(|node| node.member)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &(PathElement<'a>, Node<'a>)> {
        self.nodes.iter()
    }

    pub(super) fn nodes_mut(&mut self) -> impl Iterator<Item = (&PathElement<'a>, &mut Node<'a>)> {
        self.nodes.iter_mut().map(|(element, node)| (&*element, node))
    }

    /// Union.
    pub(super) fn add(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for (element, node) in other.nodes {
            self.put(element, node);
        }
    }

    /// Difference. The paths above and below a removed path stay.
    pub(super) fn remove(&mut self, other: &FieldSet<'_>) {
        self.zip(other, |node, other| {
            node.member &= !other.member;
            node.below.remove(&other.below);
        });
    }

    /// Difference. The paths below a removed path are removed, too.
    pub(super) fn remove_recursively(&mut self, other: &FieldSet<'_>) {
        self.zip(other, |node, other| {
            if other.member {
                *node = Node::default();
            } else {
                node.below.remove_recursively(&other.below);
            }
        });
    }

    /// Calls `change` for every branch that `other` has, too, and removes branches that become empty.
    fn zip(&mut self, other: &FieldSet<'_>, mut change: impl FnMut(&mut Node<'a>, &Node<'_>)) {
        if other.is_empty() {
            return;
        }
        let mut others = other.nodes.iter().peekable();
        self.nodes.retain_mut(|(element, node)| {
            let element = &*element;
            while others.next_if(|(other, _)| other < element).is_some() {}
            if let Some((_, other)) = others.next_if(|(other, _)| other == element) {
                change(node, other);
            }
            !node.is_empty()
        });
    }

    /// The paths that both sets have.
    pub(super) fn intersection(&self, other: &FieldSet<'_>) -> Self {
        let mut both = Self::default();
        for (element, node) in &self.nodes {
            if let Some(other) = other.get(element) {
                let member = node.member && other.member;
                let below = node.below.intersection(&other.below);
                both.put(element.clone(), Node { member, below });
            }
        }
        both
    }

    /// All paths, in the order of conflicts: at each place the members first, then the paths below.
    pub(super) fn paths(&self) -> Vec<Vec<PathElement<'a>>> {
        let mut paths = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, above: &mut Vec<PathElement<'a>>, paths: &mut Vec<Vec<PathElement<'a>>>) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.member) {
            paths.push(above.iter().chain([element]).cloned().collect());
        }
        for (element, node) in &self.nodes {
            above.push(element.clone());
            node.below.collect_paths(above, paths);
            above.pop();
        }
    }

    /// Decodes `fieldsV1`. Elements of unknown kinds are left out.
    pub(super) fn from_json(fields: &'a Value) -> Result<Self, NoPathElement> {
        Ok(read_node(fields)?.below)
    }

    /// The set as `fieldsV1`.
    pub(super) fn to_json(&self) -> Value {
        Value::Object(self.write())
    }

    fn write(&self) -> Map<String, Value> {
        self.nodes.iter().map(|(element, node)| (element.text(), Value::Object(node.write()))).collect()
    }
}

impl Node<'_> {
    fn write(&self) -> Map<String, Value> {
        let mut fields = self.below.write();
        if self.member && !fields.is_empty() {
            fields.insert(".".to_owned(), json!({}));
        }
        fields
    }
}

/// `{}` and `null` mean this path. If there are paths below, `"."` means this path.
fn read_node(fields: &Value) -> Result<Node<'_>, NoPathElement> {
    let fields = match fields {
        Value::Null => return Ok(Node { member: true, below: FieldSet::default() }),
        Value::Object(fields) => fields,
        _ => return Err(NoPathElement),
    };
    let mut node = Node::default();
    node.below.reserve(fields.len());
    for (text, below) in fields {
        if text == "." {
            node.member = true;
        } else if let Some(element) = PathElement::parse(text)? {
            node.below.put(element, read_node(below)?);
        }
    }
    node.member |= node.below.is_empty();
    Ok(node)
}
