# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An emulated Raspberry Pi as a whole: its own kernel and modules, real SSH, real boots. Not a part of `make test`: see tests/bin/pi."""
