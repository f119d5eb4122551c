# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fail2ban's configuration as far as it is ours: files as values, tried aside before the server sees them, taken back on any doubt.

Uses _host (the server, whom not to ban) and _netfilter (the rule that drops what jails ban); what a host does by itself needs none of it.
"""
