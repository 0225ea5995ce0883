#!/usr/bin/env bash
# Trains by torchrun, a process for each device. When one dies, all of them start again from the last checkpoint.
#   NPROC=2 configs/cluster/torchrun.sh --config configs/sequence_classification/digits.yaml
# On several machines the same line on each; MASTER_ADDR is one of them, where the port must be free:
#   NNODES=2 NPROC=8 MASTER_ADDR=host0 configs/cluster/torchrun.sh --config CONFIG --trainer.accelerator gpu
# After the file: options of `lightning-rnn fit`. The run folder must be one that all machines see.
# Run on CPUs, also as two nodes on one machine; not on GPUs.
set -eu

# torch 2.13 gives a restarted process the addresses of those before it, unless each start has a store of its own
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

exec torchrun --nnodes="${NNODES:=1}" --nproc-per-node="${NPROC:=1}" --max-restarts="${MAX_RESTARTS:-3}" \
  --rdzv-backend=c10d --rdzv-endpoint="${MASTER_ADDR:-127.0.0.1}:${MASTER_PORT:-29400}" \
  --rdzv-id="${RUN_ID:-lightning-rnn}" --no-python \
  lightning-rnn fit "$@" --ckpt_path last --trainer.num_nodes "$NNODES" --trainer.devices "$NPROC"
