//! How large and how tangled a component may be before anybody tries to compile it.

use opyard_model::limits::ByteSize;

/// Bounds on the shape of a component, checked in one walk over its bytes.
///
/// Compiling has limits of its own, in its process; these refuse in milliseconds, with words that say what is too much, what
/// would otherwise use those limits up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComponentBounds {
    /// The file.
    pub size: ByteSize,
    /// Core modules.
    pub modules: usize,
    /// Components and modules inside each other.
    pub depth: usize,
    /// Functions, over all modules.
    pub functions: u64,
    /// Types, imports, exports, instances, aliases, … over all sections and modules.
    pub items: u64,
    /// Bytes of one function.
    pub body: usize,
    /// Local variables of one function, its parameters left out.
    pub locals: u32,
    /// Blocks, branches and loops inside each other, in one function.
    pub nesting: usize,
    /// Loops inside each other, in one function; compilers' output has less than ten. This is what makes compiling explode.
    pub loop_nesting: u32,
    /// Loops in one function.
    pub loops: u32,
    /// Targets of one jump table.
    pub targets: u32,
}

impl ComponentBounds {
    /// For hosts that take components from strangers: what compilers make of ordinary programs fits well. What does not are
    /// interpreters, whose main loop is one large function, and whole languages in one file.
    pub const STRANGERS: Self = Self {
        size: ByteSize(16 << 20),
        modules: 32,
        depth: 16,
        functions: 100_000,
        items: 500_000,
        body: 128 << 10,
        locals: 5_000,
        nesting: 128,
        loop_nesting: 32,
        loops: 512,
        targets: 4_096,
    };

    /// For components that somebody here has chosen: a Python component is linked of some forty modules, its interpreter's
    /// loop has more than 100 KiB, and jump tables of hundreds of targets are as many blocks inside each other.
    pub const CHOSEN: Self = Self {
        size: ByteSize(64 << 20),
        modules: 64,
        depth: 16,
        functions: 100_000,
        items: 500_000,
        body: 2 << 20,
        locals: 20_000,
        nesting: 10_000,
        loop_nesting: 100,
        loops: 10_000,
        targets: 65_536,
    };
}

impl Default for ComponentBounds {
    /// [`CHOSEN`](Self::CHOSEN).
    fn default() -> Self {
        Self::CHOSEN
    }
}
