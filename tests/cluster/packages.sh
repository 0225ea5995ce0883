#!/usr/bin/env bash
# Debian's SLURM: there already, or installed where this is root and a mirror answers; else one line says why not.
command -v slurmctld slurmd sbatch srun > /dev/null && exit 0
say() { echo "SLURM: not tested ($1; apt-get install --no-install-recommends slurmctld slurmd slurm-client munge)"; exit 1; }

[ "$(id -u)" -eq 0 ] || say "it is not installed, and this is not root"
command -v apt-get > /dev/null || say "it is not installed, and there is no apt-get"
export DEBIAN_FRONTEND=noninteractive
(timeout 60 apt-get update && timeout 120 apt-get install -y --no-install-recommends \
  slurmctld slurmd slurm-client munge) > /dev/null 2>&1 || say "its packages cannot be installed here"
