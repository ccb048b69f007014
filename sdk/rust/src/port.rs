//! What the parameters and the result of an op can be, and how they become ports.
//!
//! Authors meet these traits in error messages, and when they teach a type of their own to be a port.

use crate::Failure;
use crate::bindings::opyard::op::io;
use crate::definition::{self, OpDefinition};
use crate::stream::{Reader, Writer};

/// What the signature and its attributes say about one parameter or output, beyond its type.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// The port's name, or a resource's key.
    pub name: &'static str,
    /// The doc comment; empty when there is none.
    pub description: &'static str,
    /// A named type in place of the one that the Rust type stands for.
    pub type_name: Option<&'static str>,
    /// Media types in place of those of the Rust type; empty for those.
    pub media_types: &'static [&'static str],
    /// JSON for an input that is not connected.
    pub default: Option<fn() -> String>,
}

impl Port {
    /// A port of this name, with everything else as the Rust type says.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self { name, description: "", type_name: None, media_types: &[], default: None }
    }
}

/// What a parameter is to the op: inputs, outputs and resource keys are each names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An input port.
    Input,
    /// An output port, written through a handle: [`Writer`] or [`Dynamic`](crate::Dynamic).
    Output,
    /// A resource.
    Resource,
    /// Something about the step itself.
    Context,
}

/// A type that a parameter of an op can have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of an op",
    label = "not an input, an output handle or a resource",
    note = "inputs are `Bytes`, `Text`, `Json<T>`, `JsonLines<T>`, `Csv<T>`, `Reader` or `Nothing`, in `Option<…>` or `Vec<…>` where they are optional or many",
    note = "outputs that are written piece by piece are `Writer` or `Dynamic<…>`; resources are `ObjectStore`, `HttpClient` and `Secret`; the config is the parameter named `config`"
)]
pub trait Argument: Sized {
    /// What the parameter is to the op.
    const ROLE: Role;

    /// Adds what this parameter needs to the op's definition.
    fn declare(port: &Port, op: &mut OpDefinition);

    /// Gets the value from the host when the op runs.
    ///
    /// # Errors
    /// What the host or the decoder said, naming the port.
    fn acquire(port: &Port) -> Result<Self, Failure>;
}

/// A parameter type that can also be left out: `Option<…>`.
#[diagnostic::on_unimplemented(message = "`Option<{Self}>` cannot be a parameter of an op")]
pub trait OptionalArgument: Argument {
    /// Like [`Argument::acquire`]; none when there is nothing to get.
    ///
    /// # Errors
    /// What the host or the decoder said, naming the port.
    fn acquire_optional(port: &Port) -> Result<Option<Self>, Failure>;
}

/// A type that the value on an input port can be read as.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from an input port",
    label = "not a type that an input can have",
    note = "inputs are `Bytes`, `Text`, `Json<T>`, `JsonLines<T>`, `Csv<T>` or `Reader`; `T` is any type that serde can read"
)]
pub trait Input: Sized {
    /// The type of the port, unless an attribute names another.
    const TYPE: &'static str;
    /// The media types it reads, best first; empty for any.
    const MEDIA_TYPES: &'static [&'static str];

    /// Reads the value.
    ///
    /// # Errors
    /// What the host said, or why the bytes are not such a value.
    fn read(reader: Reader) -> Result<Self, Failure>;
}

/// A type that can be written to an output port.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be written to an output port",
    label = "not a type that an output can have",
    note = "outputs are `Bytes`, `Text`, `Json<T>`, `JsonLines<T>` or `Csv<T>`; `T` is any type that serde can write"
)]
pub trait Output: Sized {
    /// The type of the port, unless an attribute names another.
    const TYPE: &'static str;
    /// The media type it writes.
    const MEDIA_TYPE: &'static str;

    /// Writes the value and commits it.
    ///
    /// # Errors
    /// What the host said, or why the value cannot be written.
    fn write(self, writer: Writer) -> Result<(), Failure>;
}

/// A type that one output can have: an [`Output`], an `Option` of one (a branch), or [`Nothing`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the output of an op",
    label = "not a type that an output can have",
    note = "outputs are `Bytes`, `Text`, `Json<T>`, `JsonLines<T>`, `Csv<T>` or `Nothing`; in `Option<…>` where the output is optional",
    note = "an op with several outputs returns a struct with `#[derive(Outputs)]`"
)]
pub trait OutputField: Sized {
    /// Adds the port to the op's definition.
    fn declare(port: &Port, op: &mut OpDefinition);

    /// Writes the value to the port.
    ///
    /// # Errors
    /// What the host said, naming the port.
    fn store(self, port: &Port) -> Result<(), Failure>;
}

/// All outputs of an op: made with `#[derive(Outputs)]`, or a single output, which is then named `result`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what an op returns",
    label = "not an output",
    note = "an op returns `()`, one of `Bytes`, `Text`, `Json<T>`, `JsonLines<T>`, `Csv<T>`, `Nothing`, an `Option` of those, or a struct with `#[derive(Outputs)]`; each may be in a `Result<…, Failure>`"
)]
pub trait Outputs: Sized {
    /// Whether there is just one output, which the op's attribute may name.
    const SINGLE: bool;
    /// The names of the outputs; of a single one, none.
    const NAMES: &'static [&'static str];

    /// Adds the ports to the op's definition.
    fn declare(result: &Port, op: &mut OpDefinition);

    /// Writes the values to the ports.
    ///
    /// # Errors
    /// What the host said, naming the port.
    fn store(self, result: &Port) -> Result<(), Failure>;
}

/// What an op returns: its [`Outputs`], or a `Result` of them with any error that converts into a [`Failure`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what an op returns",
    label = "not an output, nor a `Result` of one with an error that converts into `Failure`",
    note = "an op returns `()`, one of `Bytes`, `Text`, `Json<T>`, `JsonLines<T>`, `Csv<T>`, `Nothing`, an `Option` of those, or a struct with `#[derive(Outputs)]`; each may be in a `Result<…, Failure>`"
)]
pub trait Outcome: Sized {
    /// Whether there is just one output, which the op's attribute may name.
    const SINGLE: bool;
    /// The names of the outputs; of a single one, none.
    const NAMES: &'static [&'static str];

    /// Adds the ports to the op's definition.
    fn declare(result: &Port, op: &mut OpDefinition);

    /// Writes the values to the ports, or fails as the op did.
    ///
    /// # Errors
    /// The op's failure, or what the host said.
    fn finish(self, result: &Port) -> Result<(), Failure>;
}

/// A port without bytes: order without data. As an input it waits, as an output it is yielded by success alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nothing;

const NOTHING: &str = "nothing";
/// What a port without bytes says where a media type must stand.
const NO_BYTES: &str = "application/octet-stream";

impl<T: Input> Argument for T {
    const ROLE: Role = Role::Input;

    fn declare(port: &Port, op: &mut OpDefinition) {
        let mut input = definition::input(port, T::TYPE, T::MEDIA_TYPES);
        input.optional = input.default_value.is_some();
        op.inputs.push(input);
    }

    fn acquire(port: &Port) -> Result<Self, Failure> {
        match T::acquire_optional(port)? {
            Some(value) => Ok(value),
            None => Err(Failure::new(format!("input `{}` has no value", port.name)).no_retry()),
        }
    }
}

impl<T: Input> OptionalArgument for T {
    fn acquire_optional(port: &Port) -> Result<Option<Self>, Failure> {
        let Some(handle) = io::input(port.name).map_err(|error| Failure::of_port(port.name, error))? else {
            return Ok(None);
        };
        let value = T::read(Reader::new(port.name, handle));
        value.map(Some).map_err(|failure| failure.while_doing(format_args!("input `{}`", port.name)))
    }
}

impl<T: OptionalArgument> Argument for Option<T> {
    const ROLE: Role = T::ROLE;

    fn declare(port: &Port, op: &mut OpDefinition) {
        T::declare(port, op);
        match T::ROLE {
            Role::Input => op.inputs.last_mut().map(|input| input.optional = true),
            Role::Output => op.outputs.last_mut().map(|output| output.optional = true),
            Role::Resource => op.resources.last_mut().map(|resource| resource.optional = true),
            Role::Context => None,
        };
    }

    fn acquire(port: &Port) -> Result<Self, Failure> {
        T::acquire_optional(port)
    }
}

impl<T: Input> Argument for Vec<T> {
    const ROLE: Role = Role::Input;

    fn declare(port: &Port, op: &mut OpDefinition) {
        let mut input = definition::input(port, T::TYPE, T::MEDIA_TYPES);
        input.many = true;
        op.inputs.push(input);
    }

    fn acquire(port: &Port) -> Result<Self, Failure> {
        let handles = io::inputs(port.name).map_err(|error| Failure::of_port(port.name, error))?;
        let read = |(index, handle)| {
            T::read(Reader::new(port.name, handle))
                .map_err(|failure| failure.while_doing(format_args!("input `{}`, value {index}", port.name)))
        };
        handles.into_iter().enumerate().map(read).collect()
    }
}

impl Argument for Nothing {
    const ROLE: Role = Role::Input;

    fn declare(port: &Port, op: &mut OpDefinition) {
        op.inputs.push(definition::input(port, NOTHING, &[NO_BYTES]));
    }

    fn acquire(_: &Port) -> Result<Self, Failure> {
        Ok(Self)
    }
}

impl OptionalArgument for Nothing {
    fn acquire_optional(_: &Port) -> Result<Option<Self>, Failure> {
        Ok(Some(Self))
    }
}

/// Waits for any number of steps. Always empty: there is nothing to read, nor to count.
impl Argument for Vec<Nothing> {
    const ROLE: Role = Role::Input;

    fn declare(port: &Port, op: &mut OpDefinition) {
        let mut input = definition::input(port, NOTHING, &[NO_BYTES]);
        input.many = true;
        op.inputs.push(input);
    }

    fn acquire(_: &Port) -> Result<Self, Failure> {
        Ok(Self::new())
    }
}

/// Starts the output of this name.
pub(crate) fn start_output(port: &Port) -> Result<Writer, Failure> {
    let handle = io::output(port.name).map_err(|error| Failure::of_port(port.name, error))?;
    Ok(Writer::new(port.name, handle))
}

impl<T: Output> OutputField for T {
    fn declare(port: &Port, op: &mut OpDefinition) {
        op.outputs.push(definition::output(port, T::TYPE, T::MEDIA_TYPE));
    }

    fn store(self, port: &Port) -> Result<(), Failure> {
        self.write(start_output(port)?)
    }
}

impl<T: Output> OutputField for Option<T> {
    fn declare(port: &Port, op: &mut OpDefinition) {
        let mut output = definition::output(port, T::TYPE, T::MEDIA_TYPE);
        output.optional = true;
        op.outputs.push(output);
    }

    fn store(self, port: &Port) -> Result<(), Failure> {
        self.map_or(Ok(()), |value| OutputField::store(value, port))
    }
}

impl OutputField for Nothing {
    fn declare(port: &Port, op: &mut OpDefinition) {
        op.outputs.push(definition::output(port, NOTHING, NO_BYTES));
    }

    fn store(self, _: &Port) -> Result<(), Failure> {
        Ok(())
    }
}

impl<T: OutputField> Outputs for T {
    const SINGLE: bool = true;
    const NAMES: &'static [&'static str] = &[];

    fn declare(result: &Port, op: &mut OpDefinition) {
        T::declare(result, op);
    }

    fn store(self, result: &Port) -> Result<(), Failure> {
        OutputField::store(self, result)
    }
}

impl Outputs for () {
    const SINGLE: bool = false;
    const NAMES: &'static [&'static str] = &[];

    fn declare(_: &Port, _: &mut OpDefinition) {}

    fn store(self, _: &Port) -> Result<(), Failure> {
        Ok(())
    }
}

impl<T: Outputs> Outcome for T {
    const SINGLE: bool = T::SINGLE;
    const NAMES: &'static [&'static str] = T::NAMES;

    fn declare(result: &Port, op: &mut OpDefinition) {
        <T as Outputs>::declare(result, op);
    }

    fn finish(self, result: &Port) -> Result<(), Failure> {
        Outputs::store(self, result)
    }
}

impl<T: Outputs, E: Into<Failure>> Outcome for Result<T, E> {
    const SINGLE: bool = T::SINGLE;
    const NAMES: &'static [&'static str] = T::NAMES;

    fn declare(result: &Port, op: &mut OpDefinition) {
        <T as Outputs>::declare(result, op);
    }

    fn finish(self, result: &Port) -> Result<(), Failure> {
        Outputs::store(self.map_err(Into::into)?, result)
    }
}
