"""What devices have: read from node configs, measured, or made up for a simulation."""

from .fleet import fleet_profiles as fleet_profiles
from .fleet import worker_profile as worker_profile
from .machine import machine_profile as machine_profile
from .profile import profile_from_node_config as profile_from_node_config
