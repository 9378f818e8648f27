"""Whether everything that is documented reaches a playbook: alerting rules, routes, rules and playbooks, joined."""
