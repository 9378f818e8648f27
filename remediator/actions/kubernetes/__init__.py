"""Kubernetes: typed actions on workloads, pods, nodes, volumes and settings that a connection allows.

Every change is a compare-and-set: what was planned on is read again and sent along, so that the API server
refuses a change that somebody else's came before. Nothing is ever deleted but a job that we made ourselves.
"""
