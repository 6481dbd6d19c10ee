"""The one partition dimension of the graph: a key is one use of one instrument."""

from dagster import DynamicPartitionsDefinition

SESSIONS = DynamicPartitionsDefinition(name="sessions")
