"""What a client calls itself: what its node config says, else host and partition."""

from hsplit_flower.devices import name_from_node_config


def test_the_node_config_comes_first() -> None:
    config = {"name": "clinic-a", "partition-id": 3}
    assert name_from_node_config(config, host="ward") == "clinic-a"
    assert name_from_node_config({"name": "  "}, host="ward") == "ward"


def test_else_it_is_host_and_partition() -> None:
    assert name_from_node_config({"partition-id": 3}, host="ward") == "ward/3"
    assert name_from_node_config({}, host="ward") == "ward"
    assert name_from_node_config({"partition-id": 0}, host="") == "client/0"
