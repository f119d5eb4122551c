# Copyright (c) 2026 The sipguard.pbx contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FreePBX's own classes, one PHP process a call.

A process starts FreePBX as its command line tools do (framework, amp_conf/bin/fwconsole) and calls

- `Sipsettings()->getConfig/setConfig`: the store of the page "SIP Settings" (framework, BMO/DB_Helper.class.php);
- `Sipsettings()->getChanSipSettings/updateChanSipSettings`: its chan_sip tab, table `sipsettings` (sipsettings, Sipsettings.class.php);
- `Config()->set_conf_values`: the page "Advanced Settings", as `fwconsole setting` does (framework, Console/Setting.class.php), which
  would want the value as an argument that every process list shows;
- `Firewall()->getConfig/setAdvancedSetting`: the settings of FreePBX's firewall, which are no Advanced Settings of the above but one
  entry of the module's own store (firewall, Firewall.class.php, getAdvancedSettings; reading by that would write the defaults).

Keys and values travel on standard input, the answer on standard output below a mark. Nothing else that PHP or FreePBX says is ever
passed on, because a trace may show the database's password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .._sip.errors import SipguardError
from .freepbx import FreePBX
from .runner import Runner

__all__ = ["SECTIONS", "Api", "Settings"]

SECTIONS = ("sipsettings", "chan_sip", "advanced", "firewall")

Settings = dict[str, dict[str, Any]]


_MARK = "sipguard-answer:"

# Started with `php -r`, so it is the same for every call and holds no value. `skip_astman`: settings need no running Asterisk.
_PROGRAM = r"""
ini_set('display_errors', '0');
$sipguard_asked = json_decode(stream_get_contents(STDIN), true);
$sipguard_answer = ['stage' => 'bootstrap'];
register_shutdown_function(function () {
    while (ob_get_level() > 0) { ob_end_clean(); }
    $text = json_encode($GLOBALS['sipguard_answer']);
    fwrite(STDOUT, "\nsipguard-answer:" . ($text === false ? '{"stage": "encode"}' : $text) . "\n");
});
function sipguard_rows() {
    $rows = [];
    foreach (FreePBX::Sipsettings()->getChanSipSettings(true) as $row) {
        if (!isset($rows[$row['keyword']]) || (int) $row['type'] === 0) { $rows[$row['keyword']] = $row; }
    }
    return $rows;
}
function sipguard_firewall() {
    try { return FreePBX::Firewall(); } catch (Throwable $error) { return null; }
}
function sipguard_firewall_settings($firewall) {
    $stored = $firewall === null ? [] : $firewall->getConfig('advancedsettings');
    return is_array($stored) ? $stored : [];
}
function sipguard_firewall_state() {
    $firewall = sipguard_firewall();
    if ($firewall === null) { return ['firewall' => null]; }
    $state = [
        'status' => (bool) $firewall->getConfig('status'),
        'responsive' => (bool) $firewall->getConfig('responsivefw'),
        'settings' => (object) sipguard_firewall_settings($firewall),
        'managed' => [],
        'zones' => [],
    ];
    foreach (['pjsip', 'chansip', 'iax'] as $service) {
        $zones = $firewall->getConfig($service, 'servicesettings');
        $state['managed'][$service] = (bool) $firewall->getConfig($service, 'rfw');
        $state['zones'][$service] = is_array($zones) ? array_values($zones) : null;
    }
    return ['firewall' => $state];
}
function sipguard_read($asked) {
    $read = ['sipsettings' => [], 'chan_sip' => [], 'advanced' => [], 'firewall' => []];
    if ($asked['firewall']) {
        $firewall = sipguard_firewall();
        $stored = sipguard_firewall_settings($firewall);
        foreach (array_keys($asked['firewall']) as $key) {
            $read['firewall'][$key] = $firewall === null ? null : ['stored' => isset($stored[$key]), 'value' => $stored[$key] ?? null];
        }
    }
    if ($asked['sipsettings']) {
        $stored = FreePBX::Sipsettings()->getAllKeys('noid');
        foreach (array_keys($asked['sipsettings']) as $key) {
            $read['sipsettings'][$key] = [
                'stored' => in_array((string) $key, $stored, true),
                'value' => FreePBX::Sipsettings()->getConfig($key),
            ];
        }
    }
    if ($asked['chan_sip']) {
        $rows = sipguard_rows();
        foreach (array_keys($asked['chan_sip']) as $key) {
            $read['chan_sip'][$key] = ['stored' => isset($rows[$key]), 'value' => isset($rows[$key]) ? $rows[$key]['data'] : null];
        }
    }
    foreach (array_keys($asked['advanced']) as $key) {
        $info = FreePBX::Config()->conf_setting_exists($key) ? FreePBX::Config()->conf_setting($key) : [];
        $read['advanced'][$key] = empty($info['type']) ? null : [
            'stored' => true,
            'value' => $info['value'],
            'type' => $info['type'],
            'options' => (string) $info['options'],
            'emptyok' => !empty($info['emptyok']),
            'default' => $info['defaultval'],
        ];
    }
    $flag = FreePBX::Database()->query("SELECT value FROM admin WHERE variable = 'need_reload'")->fetchColumn();
    return $read + ['need_reload' => $flag === 'true'];
}
function sipguard_write($asked) {
    foreach ($asked['sipsettings'] as $key => $value) { FreePBX::Sipsettings()->setConfig($key, $value === null ? false : $value); }
    $rows = $asked['chan_sip'] ? sipguard_rows() : [];
    foreach ($asked['chan_sip'] as $key => $value) {
        $row = isset($rows[$key]) ? $rows[$key] : ['type' => 0, 'seq' => 10];
        FreePBX::Sipsettings()->updateChanSipSettings($key, $value === null ? false : $value, (int) $row['type'], (int) $row['seq']);
    }
    if ($asked['advanced']) { FreePBX::Config()->set_conf_values($asked['advanced'], true, true); }
    foreach ($asked['firewall'] as $key => $value) {
        if ($value !== null) {
            FreePBX::Firewall()->setAdvancedSetting($key, $value);
            continue;
        }
        $stored = sipguard_firewall_settings(FreePBX::Firewall());
        unset($stored[$key]);
        FreePBX::Firewall()->setConfig('advancedsettings', $stored ?: false);
    }
    // The firewall looks for itself what it is told to do.
    if ($asked['sipsettings'] || $asked['chan_sip'] || $asked['advanced']) { needreload(); }
}
try {
    $bootstrap_settings['freepbx_auth'] = false;
    $bootstrap_settings['skip_astman'] = true;
    $restrict_mods = ['sipsettings' => true, 'firewall' => true];
    ob_start();
    include_once $sipguard_asked['conf'];
    if (!class_exists('FreePBX')) { exit(1); }
    $sipguard_answer = ['stage' => $sipguard_asked['do']];
    if ($sipguard_asked['do'] === 'write') {
        FreePBX::Database()->beginTransaction();
        try {
            sipguard_write($sipguard_asked);
            FreePBX::Database()->commit();
        } catch (Throwable $sipguard_error) {
            if (FreePBX::Database()->inTransaction()) { FreePBX::Database()->rollBack(); }
            throw $sipguard_error;
        }
        $sipguard_answer = ['stage' => 'done'];
    } elseif ($sipguard_asked['do'] === 'pending') {
        needreload();
        $sipguard_answer = ['stage' => 'done'];
    } elseif ($sipguard_asked['do'] === 'firewall') {
        $sipguard_answer = ['stage' => 'done'] + sipguard_firewall_state();
    } else {
        $sipguard_answer = ['stage' => 'done'] + sipguard_read($sipguard_asked);
    }
} catch (Throwable $sipguard_error) {
    $sipguard_answer['class'] = get_class($sipguard_error);
    if ($sipguard_error instanceof PDOException) { $sipguard_answer['sqlstate'] = (string) $sipguard_error->getCode(); }
}
"""


class Api:
    """FreePBX's classes, one PHP process a call."""

    def __init__(self, freepbx: FreePBX, runner: Runner) -> None:
        self._freepbx = freepbx
        self._runner = runner

    def read(self, keys: Settings) -> dict[str, Any]:
        """Section -> key -> what FreePBX has of it, and `need_reload`. Raises SipguardError."""
        return self._call("read", keys)

    def firewall(self) -> Any:
        """What FreePBX's firewall is told to do, see freepbx_firewall.py; None without that module. Raises SipguardError."""
        return self._call("firewall", {}).get("firewall")

    def write(self, values: Settings) -> None:
        """All of the values or, with SipguardError, none. FreePBX then says "Apply Config", unless they are its firewall's."""
        self._call("write", values)

    def say_pending(self) -> None:
        """Have FreePBX say "Apply Config" on its pages. Raises SipguardError."""
        self._call("pending", {})

    def reload(self) -> None:
        """`fwconsole reload`. Raises SipguardError when FreePBX still has something to apply afterwards; its exit status tells little."""
        self._runner.run([self._freepbx.fwconsole, "reload"])
        if self.read({})["need_reload"]:
            raise SipguardError("fwconsole reload did not apply the settings; run it by hand to see why")

    def _call(self, do: str, settings: Settings) -> dict[str, Any]:
        php = self._runner.which("php")
        if php is None:
            raise SipguardError("FreePBX's settings need PHP, and the command php was not found")
        asked = {"do": do, "conf": self._freepbx.conf, **{section: settings.get(section) or {} for section in SECTIONS}}
        # ASCII both ways, whatever the locale.
        done = self._runner.run([php, "-r", _PROGRAM], stdin=json.dumps(asked))
        lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
        try:
            answer: dict[str, Any] = json.loads(lines[-1][len(_MARK) :])
        except (IndexError, ValueError):
            raise SipguardError("PHP ended before FreePBX could answer (FreePBX's log says more)") from None
        if answer["stage"] != "done":
            raise SipguardError(_explain(answer))
        return answer


def _explain(answer: Mapping[str, Any]) -> str:
    """One sentence, made of nothing but the stage, the class of the error and the SQLSTATE."""
    state = re.sub(r"[^0-9A-Z]", "", str(answer.get("sqlstate", "")))[:5]
    if "sqlstate" in answer:
        sentence = f"FreePBX's database refused (SQLSTATE {state or 'unknown'}): it may be down, locked or full"
    elif answer["stage"] == "bootstrap":
        sentence = (
            "FreePBX could not be started from /etc/freepbx.conf: its database may be down, or its installation damaged"
        )
    elif answer["stage"] == "encode":
        sentence = "a setting of FreePBX is not UTF-8, so it could not be put back later"
    else:
        name = re.sub(r"[^A-Za-z_\\]", "", str(answer.get("class", "")))[:40]
        sentence = f"FreePBX failed at the {answer['stage']} of its settings ({name or 'no exception'}): is its module sipsettings enabled?"
    return f"{sentence} (FreePBX's log says more)"
