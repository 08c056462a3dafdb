// SPDX-License-Identifier: Apache-2.0
// htm bound to Preact: components are written as tagged templates, with no compilation step.
import htm from 'htm';
import { h } from 'preact';

export const html = htm.bind(h);
