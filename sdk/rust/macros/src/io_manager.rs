//! `#[io_manager]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Error, Fields, ItemStruct, LitStr};

use crate::attribute;

const WHAT: &str = "an IO manager";

/// What `#[io_manager(…)]` says.
#[derive(Default)]
pub(crate) struct ManagerAttribute {
    name: Option<LitStr>,
}

impl Parse for ManagerAttribute {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut found = Self::default();
        let parser = syn::meta::parser(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("expected `name`"));
            }
            let name: LitStr = meta.value()?.parse()?;
            attribute::check_word(&name.value(), name.span(), WHAT)?;
            found.name = Some(name);
            Ok(())
        });
        parser.parse2(input.parse()?)?;
        Ok(found)
    }
}

/// The struct, and what makes it an IO manager, or what is wrong with it.
pub(crate) fn expand(said: &ManagerAttribute, item: &ItemStruct) -> TokenStream {
    let managed = managed(said, item).unwrap_or_else(Error::into_compile_error);
    quote!(#item #managed)
}

fn managed(said: &ManagerAttribute, item: &ItemStruct) -> syn::Result<TokenStream> {
    if !item.generics.params.is_empty() {
        return Err(Error::new(item.generics.span(), "an IO manager is not generic: the host needs to know its types"));
    }
    let ident = &item.ident;
    let name = match &said.name {
        Some(name) => name.value(),
        None => {
            let name = snake_case(&ident.to_string());
            attribute::check_word(&name, ident.span(), WHAT)?;
            name
        }
    };
    let description = attribute::doc(&item.attrs);
    let fields = match &item.fields {
        Fields::Named(fields) => fields.named.iter().collect(),
        Fields::Unit => Vec::new(),
        Fields::Unnamed(fields) => {
            return Err(Error::new(fields.span(), "the fields of an IO manager need names: those of its resources"));
        }
    };
    let (mut declared, mut opened, mut members) = (Vec::new(), Vec::new(), Vec::new());
    for field in fields {
        let Some(member) = &field.ident else { continue };
        let ty = &field.ty;
        if member == "config" {
            let schema = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Config>::schema);
            let parse = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Config>::parse);
            declared.push(quote!(manager.config_schema = ::core::option::Option::Some(#schema());));
            opened.push(quote!(let #member = #parse("config", config)?;));
        } else {
            let key = member.to_string();
            attribute::check_word(&key, member.span(), "a resource")?;
            let port = quote!(::opyard_guest::__private::Port::named(#key));
            let declare = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Argument>::declare);
            let acquire = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Argument>::acquire);
            let role = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Argument>::ROLE);
            declared.push(quote! {
                const { ::opyard_guest::__private::assert_resource(#role) };
                #declare(&#port, &mut fields);
            });
            opened.push(quote!(let #member = #acquire(&#port)?;));
        }
        members.push(member);
    }
    Ok(quote! {
        const _: () = {
            impl ::opyard_guest::__private::Managed for #ident {
                const NAME: &'static str = #name;

                fn definition() -> ::opyard_guest::__private::ExtensionDefinition {
                    #[allow(unused_mut, reason = "without fields nothing is added")]
                    let mut fields = ::opyard_guest::__private::definition(#name, "");
                    let mut manager = ::opyard_guest::__private::extension(#name, #description);
                    #(#declared)*
                    ::opyard_guest::__private::take_resources(fields, &mut manager);
                    manager
                }

                #[allow(unused_variables, reason = "not every IO manager takes a config")]
                fn open(config: &str) -> ::core::result::Result<Self, ::opyard_guest::Failure> {
                    #(#opened)*
                    ::core::result::Result::Ok(Self { #(#members),* })
                }
            }
        };
    })
}

/// `NdjsonParts` as `ndjson_parts`.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() {
            if at > 0 {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}
