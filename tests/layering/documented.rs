//! Public items have a doc comment. Fields and variants may do without.

use syn::visit::{self, Visit};
use syn::{
    Attribute, ImplItemFn, ItemConst, ItemEnum, ItemFn, ItemMod, ItemStruct, ItemTrait, ItemType,
    Visibility,
};

use crate::source::{is_for_tests, sources};

#[test]
fn each_public_type_function_and_constant_is_documented() {
    for source in sources("src").iter().chain(&sources("core/src")) {
        let mut undocumented = Undocumented::default();
        undocumented.visit_file(&source.file);
        let names = undocumented.0.join(", ");
        assert!(names.is_empty(), "{}: {names}", source.path.display());
    }
}

#[derive(Default)]
struct Undocumented(Vec<String>);

impl Undocumented {
    fn look(&mut self, visibility: &Visibility, attributes: &[Attribute], name: &syn::Ident) {
        let public = matches!(visibility, Visibility::Public(_));
        let documented = attributes.iter().any(|a| a.path().is_ident("doc"));
        if public && !documented {
            self.0.push(name.to_string());
        }
    }
}

impl<'ast> Visit<'ast> for Undocumented {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.look(&item.vis, &item.attrs, &item.sig.ident);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.look(&item.vis, &item.attrs, &item.sig.ident);
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.look(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.look(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.look(&item.vis, &item.attrs, &item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        self.look(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.look(&item.vis, &item.attrs, &item.ident);
    }
}
