"""What these tests share."""

from tests.strategies.fixtures import flower_log as flower_log
