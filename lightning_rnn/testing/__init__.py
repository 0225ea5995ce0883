"""The contract of a task as a test, and runs that are killed on purpose."""

from lightning_rnn.testing.contract import check_task as check_task
