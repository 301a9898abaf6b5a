//! Small XML documents as a tree of names and texts: what [`super::voc`] needs of them, fast.
//!
//! In goes the text of a file, out comes a [`Tree`]. Label files are a kilobyte of elements without attributes, and there
//! are a hundred thousand of them: such a document is walked by `plain` in a few microseconds. Whatever is not as plain
//! (attributes, comments, entities, other scripts, anything malformed) is left to `roxmltree`, which has the last word on
//! what XML is and where it is broken. Both give the same tree where both give one; a test holds them to it.
//!
//! ```
//! use roadhound_trainer::data::xml::Tree;
//! let tree = Tree::parse("<size>\n<width>640</width>\n</size>")?;
//! let width = tree.child(tree.root(), "width").unwrap();
//! assert_eq!((tree.text(width), tree.line(width)), ("640", 2));
//! # Ok::<(), roxmltree::Error>(())
//! ```

use std::borrow::Cow;

use roxmltree::Document;

/// An element of the tree that gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element(usize);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node<'a> {
    name: &'a str,
    /// Up to its first child or its end, trimmed.
    text: Cow<'a, str>,
    /// Where it starts, in bytes.
    at: usize,
    parent: Option<usize>,
    first_child: Option<usize>,
    next: Option<usize>,
}

/// Elements in the order of their starts; the first is the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree<'a> {
    source: &'a str,
    nodes: Vec<Node<'a>>,
}

impl<'a> Tree<'a> {
    /// Reads a document.
    ///
    /// # Errors
    /// Text that is not well-formed XML, with the place.
    pub fn parse(source: &'a str) -> Result<Self, roxmltree::Error> {
        match plain(source) {
            Some(tree) => Ok(tree),
            None => thorough(source),
        }
    }

    /// The outermost element.
    pub fn root(&self) -> Element {
        Element(0)
    }

    /// Its name, without a namespace.
    pub fn name(&self, element: Element) -> &str {
        self.nodes[element.0].name
    }

    /// What stands before its first child, without white space around it.
    pub fn text(&self, element: Element) -> &str {
        &self.nodes[element.0].text
    }

    /// The line on which it starts, from 1.
    pub fn line(&self, element: Element) -> u64 {
        let before = &self.source.as_bytes()[..self.nodes[element.0].at];
        before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1
    }

    /// Its children, in order.
    pub fn children(&self, element: Element) -> impl Iterator<Item = Element> + '_ {
        let mut next = self.nodes[element.0].first_child;
        std::iter::from_fn(move || {
            let at = next?;
            next = self.nodes[at].next;
            Some(Element(at))
        })
    }

    /// Its first child of this name.
    pub fn child(&self, element: Element, name: &str) -> Option<Element> {
        self.children(element)
            .find(|child| self.name(*child) == name)
    }
}

/// Appends elements below each other.
struct Builder<'a> {
    tree: Tree<'a>,
    /// The last child of every node so far.
    last_child: Vec<Option<usize>>,
}

impl<'a> Builder<'a> {
    fn new(source: &'a str) -> Self {
        // A label file has a tag for every three dozen bytes.
        let likely = source.len() / 32 + 4;
        Self {
            tree: Tree {
                source,
                nodes: Vec::with_capacity(likely),
            },
            last_child: Vec::with_capacity(likely),
        }
    }

    fn add(
        &mut self,
        parent: Option<usize>,
        name: &'a str,
        at: usize,
        text: Cow<'a, str>,
    ) -> usize {
        let nodes = &mut self.tree.nodes;
        let new = nodes.len();
        if let Some(parent) = parent {
            match self.last_child[parent].replace(new) {
                Some(before) => nodes[before].next = Some(new),
                None => nodes[parent].first_child = Some(new),
            }
        }
        nodes.push(Node {
            name,
            text,
            at,
            parent,
            first_child: None,
            next: None,
        });
        self.last_child.push(None);
        new
    }
}

/// Declarations that say no more than that it is XML in UTF-8.
const DECLARATIONS: [&str; 4] = [
    "<?xml version=\"1.0\"?>",
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>",
    "<?xml version='1.0' encoding='utf-8'?>",
];

#[inline]
fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A document of nothing but elements and their texts, in ASCII. `None` where it is anything else, well-formed or not.
fn plain(source: &str) -> Option<Tree<'_>> {
    let bytes = source.as_bytes();
    // To the end in any case: sixteen bytes at a time are faster than a way out.
    let fit = |byte: &u8| (b' '..0x7f).contains(byte) & (*byte != b'&') | is_white(*byte);
    if !bytes.iter().fold(true, |all, byte| all & fit(byte)) {
        return None;
    }
    let (has_return, has_bracket) = (bytes.contains(&b'\r'), bytes.contains(&b']'));
    let declared = DECLARATIONS
        .iter()
        .find(|words| source.starts_with(**words));
    let mut at = declared.map_or(0, |words| words.len());
    let mut builder = Builder::new(source);
    let mut open: Option<usize> = None;
    loop {
        let start = at + bytes[at..].iter().position(|byte| *byte == b'<')?;
        let text = source[at..start].trim();
        // What these mean in a text is not plain.
        if (has_return && text.contains('\r')) || (has_bracket && text.contains("]]>")) {
            return None;
        }
        match open {
            None if !text.is_empty() => return None,
            Some(element) if builder.last_child[element].is_none() => {
                builder.tree.nodes[element].text = Cow::Borrowed(text);
            }
            _ => {}
        }
        let is_end = bytes.get(start + 1) == Some(&b'/');
        let from = start + 1 + usize::from(is_end);
        let stop = from + bytes[from..].iter().position(|byte| *byte == b'>')?;
        let inner = &source[from..stop];
        at = stop + 1;
        if is_end {
            let element = open?;
            if inner.trim_end_matches(|c: char| is_white(c as u8))
                != builder.tree.nodes[element].name
            {
                return None;
            }
            open = builder.tree.nodes[element].parent;
        } else {
            let (name, is_closed) = match inner.strip_suffix('/') {
                Some(name) => (name, true),
                None => (inner, false),
            };
            let name = name.trim_end_matches(|c: char| is_white(c as u8));
            let (first, rest) = name.as_bytes().split_first()?;
            let is_name = (first.is_ascii_alphabetic() || *first == b'_')
                && rest
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
            // A second root is not well-formed.
            if !is_name || (open.is_none() && !builder.tree.nodes.is_empty()) {
                return None;
            }
            let element = builder.add(open, name, start, Cow::Borrowed(""));
            if !is_closed {
                open = Some(element);
            }
        }
        if open.is_none() {
            return source[at..].trim().is_empty().then_some(builder.tree);
        }
    }
}

fn thorough(source: &str) -> Result<Tree<'_>, roxmltree::Error> {
    let document = Document::parse(source)?;
    let mut builder = Builder::new(source);
    let mut known: Vec<(usize, usize)> = Vec::new();
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let parent = node.parent_element().and_then(|parent| {
            let at = known.binary_search_by_key(&parent.id().get_usize(), |(id, _)| *id);
            Some(known[at.ok()?].1)
        });
        let range = node.range();
        // The name as the source has it: the document does not outlive this function.
        let name = node.tag_name().name();
        let tag = &source[range.start..range.end];
        let found = tag.find(name).unwrap_or_default();
        let text = node.text().unwrap_or_default().trim().to_owned();
        let element = builder.add(
            parent,
            &tag[found..found + name.len()],
            range.start,
            Cow::Owned(text),
        );
        known.push((node.id().get_usize(), element));
    }
    Ok(builder.tree)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Both ways where both give a tree; the plain way never accepts what the other refuses.
    fn agree(source: &str) -> bool {
        match (plain(source), thorough(source)) {
            (Some(fast), Ok(sure)) => {
                assert_eq!(fast, sure, "{source:?}");
                true
            }
            (Some(_), Err(error)) => panic!("accepted {source:?}, which is malformed: {error}"),
            (None, _) => false,
        }
    }

    #[test]
    fn usual_label_files_are_plain() {
        for source in [
            "<annotation><filename>a.jpg</filename><object><name>car</name></object></annotation>",
            "<?xml version=\"1.0\"?>\n<a>\n\t<b>1 &gt; 0</b>\n</a>"
                .replace("&gt;", "x")
                .as_str(),
            "<a>\r\n  <b> 12 </b >\r\n  <c/>\r\n  <d />tail\r\n</a>\r\n\r\n",
            "<a>text<b>inner</b>more<b/></a>",
        ] {
            assert!(agree(source), "{source}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_thorough_parser() {
        for source in [
            "<a b=\"1\"/>",
            "<a><!-- no --></a>",
            "<a>&lt;</a>",
            "<a><![CDATA[x]]></a>",
            "<a>\u{e4}</a>",
            "<x:a xmlns:x=\"y\"/>",
            "<!DOCTYPE a><a/>",
            "<a>one\r\ntwo</a>",
            "<a>]]></a>",
            "<a></b>",
            "<a/><a/>",
            "<a>",
            "<a/>x",
            "x<a/>",
            "",
            "</a>",
            "< a/>",
            "<a/ >",
            "<a><b></a></b>",
        ] {
            assert!(!agree(source), "{source}");
        }
        assert_eq!(
            Tree::parse("<a>&lt;b</a>")
                .map(|t| t.text(t.root()).to_owned())
                .unwrap(),
            "<b"
        );
    }

    #[test]
    fn lines_are_those_of_the_start_of_a_tag() {
        for source in [
            "<a>\n<b/>\n\n<c>\n</c></a>",
            "<a>\n<b/>\n\n<c x='1'>\n</c></a>",
        ] {
            let tree = Tree::parse(source).unwrap();
            let c = tree.child(tree.root(), "c").unwrap();
            assert_eq!((tree.line(tree.root()), tree.line(c)), (1, 4));
        }
    }

    proptest! {
        #[test]
        fn both_parsers_agree(parts in proptest::collection::vec(0_usize..24, 0..40)) {
            const PARTS: [&str; 24] = [
                "<a>", "</a>", "<b>", "</b>", "<a/>", "<b />", "</a >", "x", " ", "\n", "\r\n", "1.5", "&amp;", "<!--c-->",
                "]]>", ">", "/", "<", "<?xml version=\"1.0\"?>", "a='1'", "\u{e4}", "<a-1._>", "</a-1._>", "\t",
            ];
            let inner: String = parts.iter().map(|part| PARTS[*part]).collect();
            agree(&inner);
            agree(&format!("<a>{inner}</a>"));
        }
    }
}
