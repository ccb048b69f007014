//! What the attributes say.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Attribute, Expr, Ident, Lit, LitBool, LitInt, LitStr, Meta, Token, parenthesized};

/// What `#[op(…)]` says.
#[derive(Default)]
pub(crate) struct OpAttribute {
    pub(crate) name: Option<LitStr>,
    pub(crate) tags: Vec<(String, LitStr)>,
    pub(crate) retry: Option<Retry>,
    pub(crate) deterministic: Option<LitBool>,
    pub(crate) result: Option<PortAttribute>,
}

/// A retry policy, as tokens of the definition's record.
pub(crate) struct Retry {
    pub(crate) max: u32,
    pub(crate) delay_ms: u32,
    pub(crate) backoff: Ident,
    pub(crate) jitter: Ident,
}

impl Parse for OpAttribute {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut found = Self::default();
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                let name: LitStr = meta.value()?.parse()?;
                check_name(&name.value(), name.span(), "an op")?;
                found.name = Some(name);
            } else if meta.path.is_ident("tags") {
                let content;
                parenthesized!(content in meta.input);
                for tag in content.parse_terminated(Tag::parse, Token![,])? {
                    found.tags.push((tag.key, tag.value));
                }
            } else if meta.path.is_ident("retry") {
                found.retry = Some(parse_retry(&meta)?);
            } else if meta.path.is_ident("deterministic") {
                found.deterministic = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("result") {
                let mut result = PortAttribute::default();
                meta.parse_nested_meta(|meta| result.take(&meta, Place::Result))?;
                found.result = Some(result);
            } else {
                return Err(meta.error("expected `name`, `tags`, `retry`, `deterministic` or `result`"));
            }
            Ok(())
        });
        parser.parse2(input.parse()?)?;
        Ok(found)
    }
}

struct Tag {
    key: String,
    value: LitStr,
}

impl Parse for Tag {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key =
            if input.peek(LitStr) { input.parse::<LitStr>()?.value() } else { input.parse::<Ident>()?.to_string() };
        input.parse::<Token![=]>()?;
        Ok(Self { key, value: input.parse()? })
    }
}

fn parse_retry(meta: &ParseNestedMeta<'_>) -> syn::Result<Retry> {
    let word = |word: &str| Ident::new(word, Span::call_site());
    let mut retry = Retry { max: 1, delay_ms: 0, backoff: word("Constant"), jitter: word("None") };
    meta.parse_nested_meta(|meta| {
        if meta.path.is_ident("max") {
            retry.max = meta.value()?.parse::<LitInt>()?.base10_parse()?;
        } else if meta.path.is_ident("delay") {
            retry.delay_ms = parse_delay(&meta.value()?.parse()?)?;
        } else if meta.path.is_ident("backoff") {
            retry.backoff = choose(
                meta.value()?.parse()?,
                &[("constant", "Constant"), ("linear", "Linear"), ("exponential", "Exponential")],
            )?;
        } else if meta.path.is_ident("jitter") {
            retry.jitter =
                choose(meta.value()?.parse()?, &[("none", "None"), ("full", "Full"), ("plus_minus", "PlusMinus")])?;
        } else {
            return Err(meta.error("expected `max`, `delay`, `backoff` or `jitter`"));
        }
        Ok(())
    })?;
    Ok(retry)
}

fn choose(said: Ident, words: &[(&str, &str)]) -> syn::Result<Ident> {
    if let Some((_, variant)) = words.iter().find(|(word, _)| said == word) {
        return Ok(Ident::new(variant, said.span()));
    }
    let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    Err(syn::Error::new(said.span(), format!("expected one of {}", words.join(", "))))
}

/// `"500ms"`, `"2s"`, `"1m"`, `"1h"` in milliseconds.
fn parse_delay(text: &LitStr) -> syn::Result<u32> {
    let value = text.value();
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit());
    let scale = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = value[..value.len() - unit.len()].parse::<u32>().ok();
    let delay = number.zip(scale).and_then(|(number, scale): (u32, u32)| number.checked_mul(scale));
    delay.ok_or_else(|| syn::Error::new(text.span(), "expected a duration such as \"500ms\", \"2s\" or \"1m\""))
}

/// Where a `#[port(…)]` stands, which decides what it may say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a parameter.
    Parameter,
    /// On a field of the outputs.
    Field,
    /// `result(…)` of the op.
    Result,
}

/// What `#[port(…)]` and the doc comment say.
#[derive(Default)]
pub(crate) struct PortAttribute {
    name: Option<LitStr>,
    type_name: Option<LitStr>,
    media: Vec<LitStr>,
    default: Option<Expr>,
    doc: String,
}

impl PortAttribute {
    /// Takes what is said about a port out of the attributes of a parameter or field.
    pub(crate) fn take_from(attributes: &mut Vec<Attribute>, place: Place) -> syn::Result<Self> {
        let mut found = Self { doc: doc(attributes), ..Self::default() };
        for attribute in &*attributes {
            if attribute.path().is_ident("port") {
                attribute.parse_nested_meta(|meta| found.take(&meta, place))?;
            }
        }
        attributes.retain(|attribute| !attribute.path().is_ident("port") && !attribute.path().is_ident("doc"));
        Ok(found)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>, place: Place) -> syn::Result<()> {
        if meta.path.is_ident("name") {
            let name: LitStr = meta.value()?.parse()?;
            check_name(&name.value(), name.span(), "a port")?;
            self.name = Some(name);
        } else if meta.path.is_ident("type") {
            self.type_name = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("media") && meta.input.peek(Token![=]) {
            self.media = vec![meta.value()?.parse()?];
        } else if meta.path.is_ident("media") && place == Place::Parameter {
            let content;
            parenthesized!(content in meta.input);
            self.media = content.parse_terminated(<LitStr as Parse>::parse, Token![,])?.into_iter().collect();
        } else if meta.path.is_ident("default") && place == Place::Parameter {
            self.default = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("doc") && place == Place::Result {
            self.doc = meta.value()?.parse::<LitStr>()?.value();
        } else {
            return Err(meta.error(match place {
                Place::Parameter => "expected `name`, `type`, `media` or `default`",
                Place::Field => "expected `name`, `type` or `media`",
                Place::Result => "expected `name`, `type`, `media` or `doc`",
            }));
        }
        Ok(())
    }

    /// The port's name: as said, or as the parameter or field is called.
    pub(crate) fn name(&self, ident: &Ident) -> syn::Result<(String, Span)> {
        if let Some(name) = &self.name {
            return Ok((name.value(), name.span()));
        }
        let name = ident.to_string();
        if let Some(keyword) = name.strip_prefix("r#") {
            let text = format!("`{keyword}` is a keyword: say `#[port(name = \"…\")]` and call the variable otherwise");
            return Err(syn::Error::new(ident.span(), text));
        }
        check_name(&name, ident.span(), "a port")?;
        Ok((name, ident.span()))
    }

    /// The name of a single output.
    pub(crate) fn result_name(&self) -> String {
        self.name.as_ref().map_or_else(|| "result".to_owned(), LitStr::value)
    }

    /// Where this says something that only a single output can take.
    pub(crate) fn name_span(&self) -> Option<Span> {
        self.name.as_ref().or(self.type_name.as_ref()).or(self.media.first()).map(LitStr::span)
    }

    /// The port as an expression of type `Port`.
    pub(crate) fn to_port(&self, name: &str) -> TokenStream {
        let Self { type_name, media, default, doc, .. } = self;
        let type_name = match type_name {
            Some(name) => quote!(::core::option::Option::Some(#name)),
            None => quote!(::core::option::Option::None),
        };
        let default = match default {
            Some(value) => quote!(::core::option::Option::Some(|| ::opyard_guest::__private::json(&(#value)))),
            None => quote!(::core::option::Option::None),
        };
        quote! {
            ::opyard_guest::__private::Port {
                name: #name,
                description: #doc,
                type_name: #type_name,
                media_types: &[#(#media),*],
                default: #default,
            }
        }
    }
}

/// The text of the doc comments.
pub(crate) fn doc(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| {
        let Meta::NameValue(meta) = &attribute.meta else { return None };
        let (true, Expr::Lit(literal)) = (meta.path.is_ident("doc"), &meta.value) else { return None };
        let Lit::Str(text) = &literal.lit else { return None };
        let text = text.value();
        Some(text.strip_prefix(' ').unwrap_or(&text).trim_end().to_owned())
    };
    attributes.iter().filter_map(line).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Refuses a name that a definitions file could not refer to.
pub(crate) fn check_name(name: &str, span: Span, whose: &str) -> syn::Result<()> {
    check_word(name, span, whose)?;
    if name == "config" {
        return Err(syn::Error::new(span, format!("`config` cannot be the name of {whose}: it is the op's config")));
    }
    Ok(())
}

/// Refuses what is no name in a definitions file.
pub(crate) fn check_word(name: &str, span: Span, whose: &str) -> syn::Result<()> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !(first && rest && name.len() <= 63) {
        let text =
            format!("the name of {whose} starts with a-z, goes on with a-z, 0-9 and _, and has at most 63 characters");
        return Err(syn::Error::new(span, text));
    }
    Ok(())
}

/// What an attribute says that can say nothing but `name = "…"`.
pub(crate) fn only_name(input: ParseStream<'_>, whose: &str) -> syn::Result<Option<LitStr>> {
    let mut found = None;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("name") {
            return Err(meta.error("expected `name`"));
        }
        let name: LitStr = meta.value()?.parse()?;
        check_word(&name.value(), name.span(), whose)?;
        found = Some(name);
        Ok(())
    });
    parser.parse2(input.parse()?)?;
    Ok(found)
}

/// The name that was said, or that of the function.
pub(crate) fn word_of(said: Option<&LitStr>, ident: &Ident, whose: &str) -> syn::Result<String> {
    if let Some(name) = said {
        return Ok(name.value());
    }
    let name = ident.to_string();
    let name = name.strip_prefix("r#").unwrap_or(&name).to_owned();
    check_word(&name, ident.span(), whose)?;
    Ok(name)
}
