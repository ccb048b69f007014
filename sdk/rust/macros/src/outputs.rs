//! `#[derive(Outputs)]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields};

use crate::attribute::{Place, PortAttribute};

pub(crate) fn expand(item: DeriveInput) -> syn::Result<TokenStream> {
    let ident = &item.ident;
    let fields = match item.data {
        Data::Struct(data) => match data.fields {
            Fields::Named(fields) => fields.named,
            Fields::Unnamed(_) | Fields::Unit => {
                return Err(Error::new(ident.span(), "outputs need names: the fields of a struct"));
            }
        },
        Data::Enum(_) | Data::Union(_) => {
            return Err(Error::new(
                ident.span(),
                "outputs are the fields of a struct; one that may be left out is an `Option`",
            ));
        }
    };

    let mut names: Vec<(String, Span)> = Vec::new();
    let mut declared = Vec::new();
    let mut stored = Vec::new();
    for mut field in fields {
        let port = PortAttribute::take_from(&mut field.attrs, Place::Field)?;
        let member = field.ident.as_ref().ok_or_else(|| Error::new(field.span(), "an output needs a name"))?;
        let (name, span) = port.name(member)?;
        if let Some((_, first)) = names.iter().find(|(other, _)| *other == name) {
            let mut error = Error::new(span, format!("two outputs are named `{name}`"));
            error.combine(Error::new(*first, "the first is here"));
            return Err(error);
        }
        let port = port.to_port(&name);
        let ty = &field.ty;
        let declare = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::OutputField>::declare);
        let store = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::OutputField>::store);
        declared.push(quote!(#declare(&#port, op);));
        stored.push(quote!(#store(self.#member, &#port)?;));
        names.push((name, span));
    }
    let names = names.iter().map(|(name, _)| name);

    let (impl_generics, type_generics, where_clause) = item.generics.split_for_impl();
    Ok(quote! {
        impl #impl_generics ::opyard_guest::__private::Outputs for #ident #type_generics #where_clause {
            const SINGLE: bool = false;
            const NAMES: &'static [&'static str] = &[#(#names),*];

            fn declare(_: &::opyard_guest::__private::Port, op: &mut ::opyard_guest::__private::OpDefinition) {
                #(#declared)*
            }

            fn store(
                self,
                _: &::opyard_guest::__private::Port,
            ) -> ::core::result::Result<(), ::opyard_guest::Failure> {
                #(#stored)*
                ::core::result::Result::Ok(())
            }
        }
    })
}
