"""What a device has and may use: read from node configs, or measured."""

from .client_name import name_from_node_config as name_from_node_config
from .machine import machine_profile as machine_profile
from .profile import memory_limit_bytes as memory_limit_bytes
from .profile import profile_from_node_config as profile_from_node_config
