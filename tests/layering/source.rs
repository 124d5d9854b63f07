//! Parses Rust files, and lists the paths that they name in `use` trees, expressions, types, attributes and the
//! tokens of macros.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, ItemMod, ItemUse, Macro, Meta, UseTree};

pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// The module of the file, from the root of the crate. It is empty for the root itself.
    pub(crate) module: Vec<String>,
    pub(crate) file: File,
}

impl Source {
    /// The module of the crate's root to which the file belongs.
    pub(crate) fn top(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }

    /// The paths that the file names outside of its tests. A relative path is resolved from the root of the
    /// crate: `super::x` becomes `crate::…::x`.
    pub(crate) fn paths(&self) -> Vec<Vec<String>> {
        let mut named = Named::default();
        named.visit_file(&self.file);
        let absolute = |path: Vec<String>| absolute(path, &self.module);
        named.paths.into_iter().map(absolute).collect()
    }
}

/// The files of a crate's `src`, without those that are compiled for tests only.
pub(crate) fn sources(src: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(src);
    let mut paths = vec![];
    walk(&root, &mut paths);
    let all = paths.into_iter().map(|path| {
        let module = module(path.strip_prefix(&root).unwrap());
        let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
        Source { path, module, file }
    });
    let all: Vec<Source> = all.collect();
    let tests: Vec<Vec<String>> = all.iter().flat_map(modules_of_tests).collect();
    let product = |source: &Source| !tests.iter().any(|test| source.module.starts_with(test));
    let product: Vec<Source> = all.into_iter().filter(product).collect();
    assert!(product.len() > 20, "{src} has no source");
    product
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn module(file: &Path) -> Vec<String> {
    let stem = file.with_extension("");
    let words = stem.iter().map(|word| word.to_str().unwrap().to_owned());
    let mut module: Vec<String> = words.collect();
    module.pop_if(|last| matches!(&**last, "mod" | "lib" | "main"));
    module
}

/// The modules that a file declares for tests only, and that have a file of their own.
fn modules_of_tests(source: &Source) -> Vec<Vec<String>> {
    let items = source.file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(item) if item.content.is_none() && is_for_tests(&item.attrs) => Some(item),
        _ => None,
    });
    let module = |item: &ItemMod| [&source.module[..], &[item.ident.to_string()]].concat();
    items.map(module).collect()
}

/// Whether the item has `#[cfg(test)]`, or a `cfg` that names `test` or a feature of fixtures.
pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    let mut cfgs = attributes.iter().filter(|a| a.path().is_ident("cfg"));
    cfgs.any(|cfg| match &cfg.meta {
        Meta::List(list) => list.tokens.to_string().contains("test"),
        _ => false,
    })
}

/// Resolves a path relative to the file's module. A `super` in an inner module leads one step less far up,
/// which does not matter to the law, because the path stays within the file's own folder.
fn absolute(path: Vec<String>, module: &[String]) -> Vec<String> {
    match path.first().map(String::as_str) {
        Some("super" | "self") => {
            let ups = path.iter().take_while(|word| *word == "super").count();
            let rest = path
                .iter()
                .skip_while(|word| matches!(&***word, "super" | "self"));
            let kept = module.len().saturating_sub(ups);
            let root = ["crate".to_owned()].into_iter();
            root.chain(module[..kept].iter().cloned())
                .chain(rest.cloned())
                .collect()
        }
        _ => path,
    }
}

/// Collects the paths that a file names.
#[derive(Default)]
struct Named {
    paths: Vec<Vec<String>>,
}

impl Named {
    fn tree(&mut self, tree: &UseTree, mut prefix: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.tree(&path.tree, prefix);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(tree, prefix.clone());
                }
            }
            UseTree::Name(name) => {
                prefix.push(name.ident.to_string());
                self.paths.push(prefix);
            }
            UseTree::Rename(rename) => {
                prefix.push(rename.ident.to_string());
                self.paths.push(prefix);
            }
            UseTree::Glob(_) => self.paths.push(prefix),
        }
    }

    /// Collects words joined by `::` in the tokens of a macro or an attribute.
    fn tokens(&mut self, tokens: &TokenStream) {
        let (mut path, mut colons) = (vec![], 0);
        for token in tokens.clone() {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.paths.push(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.paths.push(std::mem::take(&mut path));
                    self.tokens(&group.stream());
                }
                _ => self.paths.push(std::mem::take(&mut path)),
            }
        }
        self.paths.push(path);
        self.paths.retain(|path| !path.is_empty());
    }
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, vec![]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.paths.push(words.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.tokens(&called.tokens);
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.tokens(&list.tokens);
        }
        visit::visit_attribute(self, attribute);
    }
}

#[test]
fn paths_are_found_in_imports_expressions_types_attributes_and_macros() {
    let text = r#"
        use crate::a::{self, b::C as D, e};
        #[derive(crate::f::Derived)]
        struct S(super::g::G);
        fn h() { println!("{}", crate::i::j(crate::k::L)); super::super::m(); }
        #[cfg(test)]
        mod tests { use crate::never; }
    "#;
    let source = Source {
        path: PathBuf::new(),
        module: vec!["x".into(), "y".into()],
        file: syn::parse_str(text).unwrap(),
    };
    let paths: Vec<String> = source.paths().iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::a::self",
        "crate::a::b::C",
        "crate::a::e",
        "crate::f::Derived",
        "crate::x::g::G",
        "crate::i::j",
        "crate::k::L",
        "crate::m",
    ];
    for path in expected {
        assert!(
            paths.iter().any(|found| found == path),
            "{path} is not in {paths:?}"
        );
    }
    assert!(
        !paths.iter().any(|path| path.contains("never")),
        "{paths:?}"
    );
}
