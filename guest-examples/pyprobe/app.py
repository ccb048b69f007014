"""An op in Python, of the same contract as all others: what an instance of a Python guest costs is measured by it."""

from wit_world.exports import Ops as Contract
from wit_world.imports.definitions import OpDefinition, OutputDefinition


class Ops(Contract):
    """The component's ops."""

    def describe(self):
        done = OutputDefinition(
            name="result",
            description=None,
            type_name="nothing",
            media_type="application/octet-stream",
            optional=False,
            dynamic=False,
            attributes=[],
        )
        noop = OpDefinition(
            name="noop",
            description="Does nothing.",
            inputs=[],
            outputs=[done],
            resources=[],
            uses_execution=False,
            config_schema=None,
            tags=[],
            retry_policy=None,
            deterministic=True,
            attributes=[],
        )
        return [noop]

    def execute(self, op):
        """There is one op, and nothing to do."""
